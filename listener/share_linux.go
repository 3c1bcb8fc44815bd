package listener

import (
	"fmt"
	"time"
)

func (s *system) share(gen, percent int) error {
	if percent < 1 || percent > 99 {
		return fmt.Errorf("listener: a share of %d %%: want 1 to 99", percent)
	}
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	found := false
	for _, c := range s.list {
		if c.at.network != "tcp" || c.serving == gen || c.refused {
			continue
		}
		s.reconcileLocked(c)
		s.sweepClaimLocked(c, time.Now())
		s.unshareLocked(c)
		any := false
		for _, l := range c.all {
			l.shared = l.gen == gen && l.state == laneMember
			any = any || l.shared
		}
		if !any {
			continue
		}
		found = true
		c.percent = percent
		if err := s.attachLocked(c); err != nil {
			s.unshareLocked(c)
			return fmt.Errorf("listener: share %s with generation %d: %w", c, gen, err)
		}
	}
	if !found {
		return ErrNoLane
	}
	return nil
}

// unshareLocked forgets a share; the caller attaches the program.
func (s *system) unshareLocked(c *Claim) {
	c.percent = 0
	for _, l := range c.all {
		l.shared = false
	}
}

// sharedLocked are the indices of the members that get a share.
func (c *claimSystem) sharedLocked() []int {
	var out []int
	for i, l := range c.members {
		if l.shared {
			out = append(out, i)
		}
	}
	return out
}

func (l *Lane) sharePercent() int {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	if !l.shared {
		return 0
	}
	return l.claim.percent
}
