package proxy

// Left says that the servers of the generations for which left is true have said all that they will: they are gone, or
// linger with their connections. Nothing is sent to them from now on. What they have said is delivered; then each of their legs
// counts as one that was ended in good order, or as what it is. Clients that are not held go to the target.
func (p *Proxy) Left(left func(generation int) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		s.mu.Lock()
		if s.leg != nil && left(s.leg.generation) {
			s.leaveLocked(s.leg)
		}
		s.mu.Unlock()
	}
}
