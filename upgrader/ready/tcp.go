package ready

import (
	"context"
	"net"
	"time"
)

// connectTime is how long one connection may take to be made. A SYN that meets
// a full queue is sent again after 1 s.
const connectTime = 3 * time.Second

// dialer gives what makes connections.
func (o *Options) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	if o.Dial != nil {
		return o.Dial
	}
	return (&net.Dialer{KeepAlive: -1}).DialContext
}

// tcpTry connects and closes.
func tcpTry(address string, o *Options) try {
	dial := o.dialer()
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, connectTime)
		defer cancel()
		c, err := dial(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}
