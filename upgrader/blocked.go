package upgrader

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A start that failed because a port was not free yet is tried again after leastBlocked, then later and later, up to
// mostBlocked, as long as the successor's time to become ready lasts.
const (
	leastBlocked = 20 * time.Millisecond
	mostBlocked  = time.Second
)

// blocked reports whether g, which was starting, has ended because its predecessor's ports were not free yet: the
// predecessor may have had one while g ran, or g says so. With memory that is shared nothing is tried twice: each
// start may have written there, and begins once the ports are free.
func (s *Service) blocked(g *generation) bool {
	w, p := s.swap, s.leftPorts()
	if p == nil || s.sharesMemory() || g.status != nil && g.status.Success() {
		return false
	}
	if !g.due.IsZero() && !time.Now().Before(g.due) || w == nil {
		return false
	}
	return p.heldSince(g.launching) || slices.ContainsFunc(g.tailLines(), saysInUse)
}

// saysInUse reports whether a server says that an address is in use: in the words of a C library, of Go, of Windows,
// or by its number there (WSAEADDRINUSE).
func saysInUse(line string) bool {
	line = strings.ToLower(line)
	return slices.ContainsFunc([]string{"address already in use", "address in use", "eaddrinuse", "only one usage of each socket address", "10048"},
		func(said string) bool { return strings.Contains(line, said) })
}

// sharesMemory reports whether generations share memory that we know of.
func (s *Service) sharesMemory() bool { return s.config.Memory != nil }

// startOnceMore has another generation started in the place of g, which was blocked, once nothing of g is left and
// the ports are free. The verdict of the swap is still to come.
func (s *Service) startOnceMore(g *generation) {
	w, p := s.swap, s.leftPorts()
	due := g.due
	if due.IsZero() {
		due = g.launching.Add(s.config.ReadyTimeout)
	}
	pause := min(leastBlocked<<min(g.tries, 10), mostBlocked)
	err := fmt.Errorf("%s before it was ready: a port of its predecessor is still in use", g.died())
	s.observe(Event{What: EventRetry, Generation: g.number, Took: pause, Err: err})
	next := s.newGeneration(g.recipe)
	next.predecessor, next.due, next.tries = g.predecessor, due, g.tries+1
	if w.to == g {
		w.to = next
	}
	s.starting = nil
	s.kill(g, func() {
		s.spawn(func() {
			ctx, cancel := context.WithDeadline(next.grace, due)
			defer cancel()
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			late := p.awaitFree(ctx) != nil
			s.tell(func() { s.unblocked(next, late, err) })
		})
	})
}

// unblocked starts g, or is told that it is too late for that.
func (s *Service) unblocked(g *generation, late bool, err error) {
	if _, known := s.generations[g.number]; !known || g.phase == phaseDying || s.state.ending() || s.starting != nil {
		return
	}
	if late {
		s.late()
		s.starting = g
		s.notLaunched(g, err)
		return
	}
	s.begin(g)
}

// freePorts waits, before g is started on shared memory, until the ports that it needs are free: a start that fails
// may have written there. p may be nil.
func (s *Service) freePorts(g *generation, p *ownPorts) error {
	ctx, cancel := context.WithTimeout(g.grace, s.config.ReadyTimeout)
	defer cancel()
	if err := p.awaitFree(ctx); err != nil {
		return fmt.Errorf("generation %d was not started: the ports of its predecessor are still in use: %w", g.number, err)
	}
	return nil
}
