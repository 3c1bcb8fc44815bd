package proxy

import (
	"context"
	"errors"
	"net"
)

var errLeft = errors.New("proxy: the server is not at that address any more")

// Dial is for a Backend.Dial whose server is at an address known beforehand: network is tcp, tcp4, tcp6 or
// unix, address is IP:PORT, [IP]:PORT or a path. serves says, without waiting, whether the generation is
// the one that is reached there: it is asked after each connection, which does not count if it says no; nil:
// always. Where the system allows it, later connections to such a server cost no goroutine: Backend.Dial is
// called again only once serves said no.
func Dial(ctx context.Context, network, address string, serves func() bool) (net.Conn, error) {
	if err := dialDirect(ctx, network, address, serves); err != nil {
		return nil, err
	}
	var d net.Dialer
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, network, address)
	if err == nil && serves != nil && !serves() {
		_ = c.Close() // nothing was said
		return nil, errLeft
	}
	return c, err
}
