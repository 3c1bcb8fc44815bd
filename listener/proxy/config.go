package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Policy says when a session may go from one generation to the next.
type Policy int

const (
	// PolicyResume leaves a session on its leg until the server ends the leg. The server's last bytes
	// are delivered, the session is parked, and goes on at the successor. For exclusive swaps.
	PolicyResume Policy = iota
	// PolicyDrain moves a session while its server still runs: the client's bytes are held, the server
	// falls quiet, is told that the client has ended (a half-close), says what it still has to say, and
	// the session goes on at the successor. For overlap swaps.
	PolicyDrain
	// PolicyHTTP1 follows the framing of HTTP/1.1 and moves a session only between a complete response
	// and the next request. Requests are forwarded one after the other. A session whose bytes are not
	// understood falls back to PolicyDrain.
	PolicyHTTP1
)

var policies = map[string]Policy{"resume": PolicyResume, "drain": PolicyDrain, "http1": PolicyHTTP1}

// ParsePolicy reads resume, drain or http1.
func ParsePolicy(s string) (Policy, error) {
	if p, ok := policies[s]; ok {
		return p, nil
	}
	return 0, fmt.Errorf("proxy: policy %q is none of resume, drain, http1", s)
}

func (p Policy) String() string {
	for s, q := range policies {
		if p == q {
			return s
		}
	}
	return fmt.Sprintf("Policy(%d)", int(p))
}

// InFlight says what happens to a client whose bytes were in flight when its server was lost.
type InFlight int

const (
	InFlightReset  InFlight = iota // the client's connection is reset, so that it learns of it
	InFlightResume                 // the session goes on at the successor; what was in flight is not sent again
)

// Backend is how the server of one generation is reached.
type Backend struct {
	Generation int
	// Dial connects to it. It is called by many goroutines at once and may be called again after it failed.
	Dial func(ctx context.Context) (net.Conn, error)
}

// Limits of one proxy.
type Limits struct {
	Sessions int // at the same time; more clients wait in the accept queue. 0: as many as descriptors allow
	Moves    int // sessions that have connections to two servers at a time, in a swap; more wait for their turn (Linux). 0: no limit
	Buffer   int // bytes of one transfer, and the most that a session holds in each direction. 0: 64 KiB
}

// HeaderMode says what is done about a PROXY header that a client may send first.
type HeaderMode int

const (
	HeaderOff      HeaderMode = iota // the client's first bytes are the server's
	HeaderRequired                   // from trusted addresses: v1 or v2; without one the client is reset
	HeaderOptional                   // from trusted addresses: taken if there; a client that says nothing waits for HeaderIn.Timeout
)

// HeaderIn is about PROXY headers from clients.
type HeaderIn struct {
	Mode    HeaderMode
	Trusted []netip.Prefix // who may send one: others are reset when it is required, and not looked at when it is optional. nil: everybody
	Timeout time.Duration  // for the header to be complete; 0: 5 s
}

// Config of a Proxy. The zero value of each field is sound; Public is required.
type Config struct {
	Public   net.Listener // taken: closed by Run. On Linux what it accepts, and what Backend.Dial gives, are sockets
	Policy   Policy
	InFlight InFlight
	// Departed says whether a generation is gone or going, without waiting. It is asked when a server
	// ends a leg and no swap is under way: true parks the session, false passes the end on to the
	// client. A process that is exiting closes its sockets before it is a zombie, but after the kernel
	// has marked it (PF_EXITING, 0x4 in field 9 of /proc/PID/stat). nil: never gone.
	Departed    func(generation int) bool
	Limits      Limits
	Dial        time.Duration       // how long a client waits for a server that fails to be connected to. 0: 10 s
	Idle        time.Duration       // a session that nothing moved in is reset. 0: never
	KeepAlive   net.KeepAliveConfig // of both connections; the zero value leaves what they have
	UserTimeout time.Duration       // TCP_USER_TIMEOUT of both (Linux). 0: the system's
	HeaderIn    HeaderIn
	HeaderOut   bool        // a PROXY v2 header is the first thing on every leg, with an id that stays with the client, and the leg's generation
	Observe     func(Event) // called by many goroutines at once; must not block. nil: nobody
}

func (c Config) normal() (Config, error) {
	if c.Public == nil {
		return c, errors.New("proxy: config: Public is missing")
	}
	if c.Policy < PolicyResume || c.Policy > PolicyHTTP1 {
		return c, fmt.Errorf("proxy: config: %v is no policy", c.Policy)
	}
	if c.Limits.Sessions < 0 || c.Limits.Moves < 0 || c.Limits.Buffer < 0 || c.Dial < 0 || c.Idle < 0 || c.UserTimeout < 0 || c.HeaderIn.Timeout < 0 {
		return c, errors.New("proxy: config: a limit or a time is negative")
	}
	if c.UserTimeout > 0 && !canUserTimeout {
		return c, fmt.Errorf("proxy: config: TCP_USER_TIMEOUT: %w", errors.ErrUnsupported)
	}
	if c.Limits.Buffer == 0 {
		c.Limits.Buffer = 64 << 10
	}
	if c.Dial == 0 {
		c.Dial = 10 * time.Second
	}
	if c.HeaderIn.Timeout == 0 {
		c.HeaderIn.Timeout = 5 * time.Second
	}
	if c.Departed == nil {
		c.Departed = func(int) bool { return false }
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	return c, nil
}
