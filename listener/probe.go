package listener

import (
	"context"
	"net"
)

// Separate tells whether the lanes of a claim are sockets of their own, so that
// Probe can reach one generation alone.
func (s *Set) Separate() bool { return separate }

// Probe connects to the lanes of gen, one on each stream claim, and waits
// until a process of it has accepted. Nobody else's connections go there: the
// program of the group knows the probe by its source port. It tries until ctx
// ends, and says then which address was not served.
func (s *Set) Probe(ctx context.Context, gen int) error { return s.sys.probe(ctx, gen) }

// Dial connects as net.Dialer does. Where address is that of a claim, the
// connection goes to the lane of gen, whoever is steered to; one at a time on
// each claim. It is for checks of a generation that does not serve yet.
func (s *Set) Dial(ctx context.Context, gen int, network, address string) (net.Conn, error) {
	return s.sys.dialLane(ctx, gen, network, address)
}
