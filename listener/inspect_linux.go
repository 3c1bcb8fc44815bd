package listener

import "slices"

func (s *system) lanesOn(c *Claim) []*Lane {
	s.lock()
	defer s.unlock()
	return slices.Clone(c.all)
}

func (l *laneSystem) isSteered() bool {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	return l.steered
}

func (c *claimSystem) meets(sock Socket) bool {
	at, ok := endpointOf(sock)
	if !ok {
		return false
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	return c.at == at || c.at.overlaps(at)
}
