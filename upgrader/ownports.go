package upgrader

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/process"
)

// lookEvery is how often it is looked who listens, while a server leaves its ports and its successor takes them.
const lookEvery = 10 * time.Millisecond

// ownPorts are the ports that a server bound by itself, watched during an exclusive swap. Nobody can hold them open
// where binds are not taken over: clients are refused from the moment when the predecessor closes them until its
// successor listens. That is measured; and a start that fails because they are not free yet is told from others.
type ownPorts struct {
	ports map[uint16]bool
	freed chan struct{} // closed when the predecessor has none of them any more

	mu     sync.Mutex
	left   map[listener.Listening]bool // sockets that the predecessor has still; one that was missing once is another's
	closed time.Time                   // when one of them was first missing
	free   time.Time                   // when all were
	opened time.Time                   // since when others listen on all the ports; zero: they do not
}

// bindsItself reports whether the server binds its ports by itself, so that a successor has to wait for them.
func (s *Service) bindsItself() bool {
	return s.config.Strategy == Exclusive && !s.intercepts && len(s.claims) == 0
}

// namedPorts are those where the configuration says that the server listens.
func (c *Config) namedPorts() map[uint16]bool {
	ports := map[uint16]bool{}
	for _, p := range c.Proxies {
		ports[uint16(p.Backend.Port)] = true
	}
	at := c.Ready.Address
	if u, err := url.Parse(c.Ready.URL); err == nil && c.Ready.URL != "" {
		if at = u.Host; u.Port() == "" {
			at = net.JoinHostPort(u.Hostname(), u.Scheme)
		}
	}
	if _, service, err := net.SplitHostPort(at); err == nil {
		if n, err := net.LookupPort("tcp", service); err == nil {
			ports[uint16(n)] = true
		}
	}
	return ports
}

// ownPortsOf looks at what m's processes listen on; nil: nothing, or it cannot be known. Where the system does not
// say whose a socket is, it is m's if the configuration names its port.
func ownPortsOf(m *process.Members, named map[uint16]bool) *ownPorts {
	all, err := listener.AllListening()
	if err != nil {
		return nil
	}
	p := &ownPorts{left: map[listener.Listening]bool{}, ports: map[uint16]bool{}, freed: make(chan struct{})}
	owns := owner(m)
	for _, l := range all {
		if mine, known := owns(l); known && mine || !known && named[l.Addr.Port()] {
			p.left[l], p.ports[l.Addr.Port()] = true, true
		}
	}
	if len(p.left) == 0 {
		return nil
	}
	return p
}

// owner tells which sockets are of m's processes, as far as that is known.
func owner(m *process.Members) func(listener.Listening) (mine, known bool) {
	inodes, err := m.Inodes()
	pids := m.Pids()
	return func(l listener.Listening) (mine, known bool) {
		if l.Pid != 0 {
			return slices.Contains(pids, l.Pid), true
		}
		_, mine = inodes[l.Inode]
		return mine, l.Inode != 0 && err == nil
	}
}

// watch them until ctx ends.
func (p *ownPorts) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if all, err := listener.AllListening(); err == nil { // else the next look may tell
			p.seen(all, time.Now())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// seen notes who listens now.
func (p *ownPorts) seen(all []listener.Listening, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	missing := maps.Clone(p.left)
	taken := map[uint16]bool{}
	for _, l := range all {
		switch port := l.Addr.Port(); {
		case p.left[l]:
			delete(missing, l)
		case p.ports[port]:
			taken[port] = true
		}
	}
	for l := range missing {
		p.lostLocked(l, now)
	}
	switch {
	case len(taken) < len(p.ports):
		p.opened = time.Time{}
	case p.opened.IsZero():
		p.opened = now
	}
}

// lostLocked notes that the predecessor has one socket less.
func (p *ownPorts) lostLocked(l listener.Listening, now time.Time) {
	delete(p.left, l)
	if p.closed.IsZero() {
		p.closed = now
	}
	if len(p.left) == 0 {
		p.free = now
		close(p.freed)
	}
}

// gone notes that no process of the predecessor is left. p may be nil.
func (p *ownPorts) gone(now time.Time) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.left {
		p.lostLocked(l, now)
	}
}

// gap is for how long nobody listened, as far as it is over: at most until now. 0: not at all.
func (p *ownPorts) gap(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.IsZero() {
		return 0
	}
	if !p.opened.IsZero() {
		now = p.opened
	}
	return max(0, now.Sub(p.closed))
}

// heldSince reports whether the predecessor may have had one of them after t.
func (p *ownPorts) heldSince(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free.IsZero() || p.free.After(t)
}

// awaitFree waits until the predecessor has none of them any more.
func (p *ownPorts) awaitFree(ctx context.Context) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.freed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takenBy reports whether processes of which owns tells, and not the predecessor, listen on a port; 0: on any of them.
func (p *ownPorts) takenBy(all []listener.Listening, owns func(listener.Listening) (mine, known bool), port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := map[uint16]bool{}
	for _, l := range all {
		at := l.Addr.Port()
		if !p.ports[at] || port != 0 && at != port {
			continue
		}
		before, seen := taken[at]
		mine, known := owns(l)
		taken[at] = !p.left[l] && (mine || !known) && (before || !seen)
	}
	for _, is := range taken {
		if is {
			return true
		}
	}
	return false
}

// has reports whether the predecessor listened on that port. p may be nil.
func (p *ownPorts) has(port uint16) bool { return p != nil && p.ports[port] }

// awaitTaken waits until a process of m, and nobody else, listens on a port of the predecessor; 0: on any of them.
func (p *ownPorts) awaitTaken(ctx context.Context, m *process.Members, port uint16) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if all, err := listener.AllListening(); err == nil && p.takenBy(all, owner(m), port) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watchPorts has the ports watched that g leaves, until the swap under way has its verdict. p may be nil.
func (s *Service) watchPorts(p *ownPorts) {
	w := s.swap
	if p == nil || w == nil {
		return
	}
	ctx, cancel := context.WithCancel(s.run)
	w.ports, w.unwatch = p, cancel
	s.spawn(func() { p.watch(ctx) })
}

// measured ends the watch of w, and gives the gap, unless clients come through a proxy, and notice none.
func (s *Service) measured(w *swap, now time.Time) time.Duration {
	if w.ports != nil {
		w.unwatch()
		if len(s.proxies.all) == 0 {
			w.gap = w.ports.gap(now)
		}
		w.ports = nil
	}
	return w.gap
}

// gapMessage says what clients noticed of a swap; "": nothing is known.
func gapMessage(gap time.Duration) string {
	if gap == 0 {
		return ""
	}
	return fmt.Sprintf("nobody listened for %v", gap.Round(time.Millisecond))
}

// leftPorts are those that whoever starts now is to take from its predecessor; nil: there are none, or they are not
// known.
func (s *Service) leftPorts() *ownPorts {
	if w := s.swap; w != nil && (s.state == Replacing || s.state == Reverting) {
		return w.ports
	}
	return nil
}
