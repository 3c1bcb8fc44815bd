package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Protocol says what a request is.
type Protocol string

// The protocols.
const (
	HTTP  Protocol = "http"  // GET, answered 200 with "gen=N" in the body
	Lines Protocol = "lines" // "SEQ\n", answered "SEQ ... gen=N ...\n" in order
	UDP   Protocol = "udp"   // a datagram "SEQ\n", answered by one that begins with it
)

// Config is what Start needs.
type Config struct {
	Protocol Protocol // "": HTTP
	Network  string   // "tcp", "unix" or "udp"; "": udp for UDP, else tcp
	Address  string   // host:port, or the path of a unix socket
	Path     string   // of HTTP requests; "": "/"

	// Dial makes a connection; nil: a net.Dialer does. It must keep the deadline of ctx.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Clients       int           // how many ask at a time; 0: 1
	PerConnection int           // requests before a client leaves its connection; 0: as long as it lasts; 1: one each
	Rate          float64       // requests per second of all clients, by the clock (open loop); 0: each asks when it was answered (closed loop)
	Limit         int           // requests in all; 0: until Stop
	Timeout       time.Duration // of one request, connecting included; 0: 30 s
	Resend        time.Duration // UDP: a datagram that was not answered is sent again; 0: 250 ms
}

func (c Config) check() (Config, error) {
	if c.Protocol == "" {
		c.Protocol = HTTP
	}
	if c.Network == "" {
		c.Network = "tcp"
		if c.Protocol == UDP {
			c.Network = "udp"
		}
	}
	if c.Path == "" {
		c.Path = "/"
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.Clients == 0 {
		c.Clients = 1
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Resend == 0 {
		c.Resend = 250 * time.Millisecond
	}
	switch {
	case c.Address == "":
		return c, errors.New("load: no address")
	case c.Protocol != HTTP && c.Protocol != Lines && c.Protocol != UDP:
		return c, fmt.Errorf("load: no such protocol: %s", c.Protocol)
	case c.Clients < 0 || c.PerConnection < 0 || c.Limit < 0 || c.Rate < 0 || c.Timeout < 0 || c.Resend < 0:
		return c, errors.New("load: negative numbers mean nothing")
	}
	return c, nil
}
