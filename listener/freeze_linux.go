package listener

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// relayedLook is how often Relayed looks.
const relayedLook = 5 * time.Millisecond

func (s *system) freeze() {
	s.lock()
	defer s.unlock()
	s.frozen = true
	s.kickLocked()
}

func (s *system) thaw() error {
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	s.frozen = false
	var first error
	for _, c := range s.list {
		if err := s.thawClaimLocked(c); err != nil && first == nil {
			first = fmt.Errorf("listener: attach to %s again: %w", c, err)
		}
	}
	s.kickLocked()
	return first
}

// thawClaimLocked says again what only we say from now on.
func (s *system) thawClaimLocked(c *Claim) error {
	s.reconcileLocked(c)
	if !c.at.onPath() {
		return s.attachLocked(c)
	}
	c.dir.sweep() // names of lanes that whoever did not take over had made
	if steered := c.steeredLocked(); len(steered) > 0 && !c.refused {
		return c.dir.publish(steered[0].name)
	}
	return nil
}

// relayed waits until no late client is being relayed.
func (s *system) relayed(ctx context.Context) error {
	tick := time.NewTicker(relayedLook)
	defer tick.Stop()
	for s.relays.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// generations are the numbers that lanes are of, 0 not among them, ascending.
func (s *system) generations() []int {
	s.lock()
	defer s.unlock()
	var all []int
	for _, c := range s.list {
		for _, l := range c.all {
			if l.gen != 0 {
				all = append(all, l.gen)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
