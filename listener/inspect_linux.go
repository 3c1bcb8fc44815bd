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

func (l *laneSystem) inodeNumber() uint64  { return l.inode }
func (l *laneSystem) cookieNumber() uint64 { return l.cookie }

func (c *claimSystem) meets(sock Socket) bool {
	at, ok := endpointOf(sock)
	if !ok {
		return false
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	return c.at == at || c.at.overlaps(at)
}
