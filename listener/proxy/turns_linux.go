//go:build !goroutines

package proxy

// moves are the sessions of a loop that go from a server to its successor while both run. Each has a third
// descriptor meanwhile, so only some move at a time; the others wait for their turn.
type moves struct {
	most    int // 0: no limit
	now     int
	waiting []ticket
}

// takeMove gives s a turn, or has it looked at when there is one.
func (s *session) takeMove() bool {
	m := &s.loop.moves
	switch {
	case s.moving:
	case m.most == 0 || m.now < m.most:
		s.moving, s.queued = true, false
		m.now++
	case !s.queued:
		s.queued = true
		m.waiting = append(m.waiting, s.ticket)
	}
	return s.moving
}

// leaveMove gives the turn back, if s has one.
func (s *session) leaveMove() {
	if s.moving {
		s.moving = false
		s.loop.moves.now--
	}
}

// callMoves has as many sessions looked at as there are turns. One that is not to be moved any more takes none.
func (l *loop) callMoves() {
	m := &l.moves
	n := min(len(m.waiting), m.most-m.now)
	if n <= 0 {
		return
	}
	for _, t := range m.waiting[:n] {
		if s := l.at(t); s != nil {
			s.queued = false
			l.ready = append(l.ready, t)
		}
	}
	if m.waiting = m.waiting[n:]; len(m.waiting) == 0 {
		m.waiting = nil
	}
}
