package proxy

// Left says that the server of a generation has said all that it will, while its process, and its connections, may
// live on: it lingers. What it has said is delivered; then each of its legs counts as one that it has ended in good
// order. Clients that are not held would go to the target: Hold comes first.
func (p *Proxy) Left(generation int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		s.mu.Lock()
		if s.leg != nil && s.leg.generation == generation {
			s.leaveLocked(s.leg)
		}
		s.mu.Unlock()
	}
}
