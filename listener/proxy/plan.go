package proxy

import "time"

// unanswered is true while the client's last byte is younger than the server's last word. A server that
// never answers is not waited for.
func (s *session) unanswered() bool {
	const oneWay = 8
	sent := s.sent.Load()
	return s.answered.Load() < sent && !(s.turns.Load() == 0 && sent >= oneWay)
}

// quiet says from when on the session is quiet; ok is false when that depends on something to happen.
// Precondition: s.mu is held.
func (s *session) quietLocked(g *leg, settle Settle) (at time.Time, ok bool) {
	if s.flowingLocked() || s.outcome == upBroken {
		return time.Time{}, false
	}
	if s.http != nil {
		return time.Time{}, s.http.boundary()
	}
	if s.unanswered() {
		return time.Time{}, false
	}
	at = time.Unix(0, s.last.Load()).Add(settle.Quiet)
	if n := g.unsent(); n > 0 {
		if soon := time.Now().Add(5 * time.Millisecond); soon.After(at) {
			at = soon
		}
	}
	return at, true
}

// plan what to do about operations: answer them, move now, or look again at a time (zero: when
// something happens).
func (s *session) plan(g *leg) (at time.Time, move bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watching = false
	stays := s.serverEnded || s.finished || s.outcome == upBroken || (s.http != nil && s.http.pinned())
	if op := s.op; op != nil {
		switch {
		case stays:
			s.stayLocked(nil)
			s.startUpLocked()
			return time.Time{}, false
		case op.to != nil && op.to.Generation == g.generation:
			s.answerLocked(true)
			s.startUpLocked()
			return time.Time{}, false
		case op.to != nil && s.p.config.Policy == PolicyResume:
			return time.Time{}, false // until the server ends the leg
		}
		s.watching = true
		at, ok := s.quietLocked(g, op.settle)
		switch {
		case !ok:
			return time.Time{}, false
		case time.Now().Before(at):
			return at, false
		}
		g.settled.Store(true)
		s.watching = false
		if op.to == nil {
			s.answerLocked(true)
			return time.Time{}, false
		}
		return time.Time{}, true
	}
	return s.planAloneLocked(g, stays)
}

// planAloneLocked is for sessions that were not moved in time: they hold for a moment when they are
// quiet anyway, and move if they still are.
func (s *session) planAloneLocked(g *leg, stays bool) (at time.Time, move bool) {
	t := s.p.target.Load()
	if stays || s.held || t == nil || !t.move || t.Generation == g.generation || s.p.config.Policy == PolicyResume {
		if s.trying {
			s.trying = false
			s.startUpLocked()
		}
		return time.Time{}, false
	}
	now := time.Now()
	if now.Before(s.notBefore) {
		return s.notBefore, false
	}
	s.watching = true
	busy := s.unanswered()
	at = time.Unix(0, s.last.Load()).Add(t.settle.Quiet)
	if s.http != nil {
		busy, at = !s.http.boundary(), time.Time{}
	}
	if busy || now.Before(at) {
		if s.trying {
			s.trying = false
			s.startUpLocked()
		}
		if busy {
			return time.Time{}, false
		}
		return at, false
	}
	if !s.trying {
		s.trying = true
		s.pauseLocked()
	}
	if at, ok := s.quietLocked(g, t.settle); !ok || now.Before(at) {
		return at, false
	}
	g.settled.Store(true)
	s.watching = false
	return time.Time{}, true
}
