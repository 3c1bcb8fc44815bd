package upgrader

import (
	"net"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/proxy"
)

// Proxied is an address on which we accept the clients ourselves, and connect
// each to the server, so that a swap does not end its connection.
type Proxied struct {
	Public  listener.Address // where clients come: tcp or unix
	Backend listener.Address // where the server listens; the zero value: wherever it thinks that it binds Public

	Policy      *proxy.Policy       // when a client goes to the successor; nil: drain with overlap, resume with exclusive
	InFlight    proxy.InFlight      // what becomes of a client whose bytes were in flight
	HeaderOut   bool                // the server is told the client and its id by a PROXY v2 header
	HeaderIn    proxy.HeaderIn      // clients say who they are
	Max         int                 // connections at a time; 0: as many as descriptors allow
	Dial        time.Duration       // how long a client waits for a server that cannot be connected to; 0: 10 s
	Idle        time.Duration       // then a connection is reset; 0: never
	KeepAlive   net.KeepAliveConfig // of both connections; the zero value: as the system has it
	UserTimeout time.Duration       // TCP_USER_TIMEOUT of both; 0: as the system has it
}

// Intercepted reports whether the server's own bind(2) of Public is taken over.
func (p *Proxied) Intercepted() bool { return p.Backend.Network == "" }

// checkProxies fills what zero values mean and refuses what cannot be.
func (c *Config) checkProxies() error {
	for i := range c.Proxies {
		p := &c.Proxies[i]
		for _, a := range []listener.Address{p.Public, p.Backend} {
			switch a.Network {
			case "udp", "udp4", "udp6", "unixgram":
				return usage("proxy %s: datagrams have no connections to keep", p.Public)
			}
		}
		if p.Policy == nil {
			policy := proxy.PolicyDrain
			if c.Strategy == Exclusive {
				policy = proxy.PolicyResume
			}
			p.Policy = &policy
		}
		switch {
		case p.Intercepted() && p.Public.Network == "unix":
			return usage("proxy %s: only a bind of TCP is taken over: say where the server listens", p.Public)
		case p.Intercepted() && c.Intercept == InterceptOff:
			return usage("proxy %s: its backend is what the server binds, so --intercept must not be off", p.Public)
		case p.Intercepted():
			c.Intercept = InterceptOn
		case c.Strategy == Overlap && c.Intercept == InterceptOff && !c.listens(p.Backend):
			return usage("proxy %s: two generations cannot both bind %s: claim it with --listen, let --intercept be auto, or use --strategy exclusive", p.Public, p.Backend)
		case c.Strategy == Overlap && p.Backend.Network == "unix" && !c.listens(p.Backend):
			return usage("proxy %s: two generations cannot both bind %s: claim it with --listen, or use --strategy exclusive", p.Public, p.Backend)
		}
		if p.Max < 0 || p.Dial < 0 || p.Idle < 0 || p.UserTimeout < 0 || p.HeaderIn.Timeout < 0 {
			return usage("proxy %s: a limit or a time must not be negative", p.Public)
		}
	}
	return nil
}

// listens reports whether a is claimed for the server.
func (c *Config) listens(a listener.Address) bool {
	for _, l := range c.Listen {
		if sameStream(l, a) {
			return true
		}
	}
	return false
}

// sameStream reports whether clients of b land on a: the same path, or the
// same port of addresses that meet.
func sameStream(a, b listener.Address) bool {
	if a.Network == "unix" || b.Network == "unix" {
		return a.Network == b.Network && a.Path == b.Path
	}
	if a.Network[:3] != b.Network[:3] || a.Port != b.Port {
		return false
	}
	x, y := net.ParseIP(a.Host), net.ParseIP(b.Host)
	if x == nil || y == nil || x.IsUnspecified() || y.IsUnspecified() { // all addresses, or a name
		return true
	}
	return x.Equal(y)
}
