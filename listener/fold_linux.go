package listener

import (
	"slices"
	"time"
)

// foldLocked lets lanes leave that mayLeave keeps for ever: several that are gone lie before the one that is steered
// to. It points the group at the first of them, whose clients we relay, takes the others out (no index that the
// program names moves), and points back. The first one stays for another rescue time, for what landed in it in
// between, and leaves in the ordinary way. It reports whether it did so.
func (s *system) foldLocked(c *Claim, now time.Time) bool {
	if c.at.onPath() || c.refused || c.route != nil || len(c.members) < 3 || c.members[0].steered {
		return false
	}
	var leave []*Lane
	steered := 0
	for _, l := range c.members {
		switch {
		case l.steered:
			steered++
		case l.watched && c.at.network != "tcp": // the keeper waits on it: closing would not take it out
			return false
		case l.fd < 0 || !l.retired || l.expires.IsZero() || now.Before(l.expires) || now.Before(l.pause):
			return false // it is in use, or not yet due
		default:
			leave = append(leave, l)
		}
	}
	if steered == 0 || len(leave) < 2 {
		return false
	}
	s.reconcileLocked(c)
	if !slices.Contains(c.members, leave[0]) || c.members[0] != leave[0] {
		return false // the group is not what it was
	}
	c.fold = leave[0]
	err := s.attachLocked(c)
	if err == nil {
		leave[0].expires = now.Add(s.cfg.RescueTime)
		for _, l := range leave[1:] {
			if l.state != laneMember {
				continue
			}
			if err := s.drainLocked(l); err != nil {
				s.note(RescueLost, c, l.gen, err)
			}
			s.saveLocked()
			s.detachLocked(l)
		}
	}
	c.fold = nil
	if back := s.attachLocked(c); back != nil {
		err = back
	}
	if err != nil {
		s.note(Failed, c, c.serving, err)
	}
	s.kickLocked()
	return err == nil
}
