package proxy

import "io"

// legEnded decides what the server's end of g means: io.EOF in good order, anything else a reset.
// decided is false when the session goes on in the other direction.
func (s *session) legEnded(g *leg, err error) (f fate, decided bool) {
	clean := err == io.EOF
	s.mu.Lock()
	finished := s.finished
	s.mu.Unlock()
	if finished && clean && (s.http == nil || s.http.pinned() || !s.http.started()) {
		return over, true // both have ended, whoever the server is: the client's connection is closed with the session
	}
	gone := s.gone(g)
	if s.http != nil && !s.http.pinned() {
		switch {
		case s.http.started():
			if !clean || !s.http.untilEnd() || s.p.config.Departed(g.generation) {
				s.lost(g) // a response that was cut off must not look whole
				return over, true
			}
			gone = false
		}
	} else if s.http != nil {
		gone = false // a tunnel ends with its server
	}
	switch {
	case finished && clean:
		return over, true
	case finished, !gone && !clean:
		s.reset()
		return over, true
	case !gone:
		_ = s.client.end() // broken: the up pump sees that
		s.serverEnded = true
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		return over, false
	}
	return s.rehome(g, clean), true
}

// rehome takes a session from a server that is gone, with all that is known of what was in flight.
func (s *session) rehome(g *leg, clean bool) fate {
	s.unhook(g)
	s.mu.Lock()
	broken, unread := s.outcome == upBroken, s.outcome == upLost
	s.mu.Unlock()
	switch {
	case unread:
		s.client.abort()
		return over
	case s.http != nil && s.http.pinned():
		s.lost(g)
		return over
	case s.http != nil && !s.http.boundary():
		return s.again(g)
	case s.http != nil:
	case g.settled.Load():
	case broken || s.unanswered() || (!clean && g.bytes.Load() > 0):
		s.p.count.inFlight.Add(1)
		s.p.config.Observe(Event{Kind: LostInFlight, Session: s.id, Generation: g.generation})
		if s.p.config.InFlight == InFlightReset {
			s.reset()
			return over
		}
	}
	s.left = true
	return parked
}

// gone is true when the server ends the leg because it goes, or is gone.
func (s *session) gone(g *leg) bool {
	s.p.mu.Lock()
	finishing := s.p.finishing
	s.p.mu.Unlock()
	if finishing {
		return false
	}
	s.mu.Lock()
	held := s.held || s.op != nil
	s.mu.Unlock()
	t := s.p.target.Load()
	return held || t == nil || t.Generation != g.generation || s.p.config.Departed(g.generation)
}

// lost ends a session whose exchange was cut off.
func (s *session) lost(g *leg) {
	s.p.count.inFlight.Add(1)
	s.p.config.Observe(Event{Kind: LostInFlight, Session: s.id, Generation: g.generation})
	g.abort()
	s.reset()
}

// again is for a request that a server had not begun to answer: if it is safe it is sent to the next one.
func (s *session) again(g *leg) fate {
	request, ok := s.http.replay()
	if !ok {
		s.lost(g)
		return over
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carry = append(append([]byte(nil), request...), s.carry...)
	s.left = true
	s.p.count.replayed.Add(1)
	s.p.config.Observe(Event{Kind: Replayed, Session: s.id, Generation: g.generation})
	return parked
}
