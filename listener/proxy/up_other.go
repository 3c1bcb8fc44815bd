//go:build !linux || goroutines

package proxy

import (
	"io"
	"time"
)

// startUpLocked starts the up pump unless there is a reason not to.
func (s *session) startUpLocked() {
	switch {
	case s.pumping, s.ended, s.finished, s.wantPauseLocked():
		return
	case s.outcome == upLost, s.outcome == upBroken, s.outcome == upEOF:
		return
	case s.outcome == upOwed && !s.http.boundary() && !s.http.pinned():
		return
	}
	_ = s.client.SetReadDeadline(time.Time{}) // closed: the pump sees that
	s.pumping = true
	stopped := make(chan struct{})
	s.stopped = stopped
	g := s.leg
	go func() { // joined by end
		defer close(stopped)
		outcome := s.flowUp(g)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pumping = false
		s.outcome = outcome
		s.interruptLocked()
	}()
}

func (s *session) startUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startUpLocked()
}

// flowUp moves the client's bytes to g.
func (s *session) flowUp(g *leg) upEnd {
	if b := s.carry; len(b) > 0 {
		s.carry = nil
		rest, outcome := s.forward(g, b)
		if outcome != upNone {
			s.carry = append([]byte(nil), rest...)
			return outcome
		}
	}
	for {
		buffer, n, err := s.client.read(s.p.buffers)
		switch {
		case timeout(err):
			if !s.goOn(g) {
				return upPaused
			}
			continue
		case err == io.EOF:
			return upEOF
		case err != nil:
			return upLost
		}
		s.touch()
		rest, outcome := s.forward(g, (*buffer)[:n])
		if outcome != upNone {
			s.carry = append([]byte(nil), rest...)
			s.p.buffers.put(buffer)
			return outcome
		}
		s.p.buffers.put(buffer)
	}
}

// goOn is true when the pump was interrupted and has to go on: nobody wants a pause any more, or it is
// in the middle of a request.
func (s *session) goOn(g *leg) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.leg != g {
		return false
	}
	if s.wantPauseLocked() && (s.http == nil || s.http.pinned() || s.http.up.between()) {
		return false
	}
	return s.client.SetReadDeadline(time.Time{}) == nil
}

// forward b, up to where the pump has to stop.
func (s *session) forward(g *leg, b []byte) (rest []byte, outcome upEnd) {
	if s.http == nil {
		return s.write(g, b)
	}
	for len(b) > 0 {
		if s.http.pinned() {
			return s.write(g, b)
		}
		if s.http.up.between() {
			if !s.http.boundary() {
				return b, upOwed
			}
			s.mu.Lock()
			pause := s.wantPauseLocked() || s.leg != g
			s.mu.Unlock()
			if pause {
				return b, upPaused
			}
		}
		n, err := s.http.request(b)
		if err != nil {
			s.opaque(g, err)
			continue
		}
		rest, outcome := s.write(g, b[:n])
		if outcome != upNone {
			_ = rest // the whole request is sent again or the client is reset, never the rest of it
			return b[n:], outcome
		}
		b = b[n:]
	}
	return nil, upNone
}

// opaque stops following HTTP: the session stays with its server to the end.
func (s *session) opaque(g *leg, err error) {
	s.http.pin()
	s.p.count.opaque.Add(1)
	s.p.config.Observe(Event{Kind: Opaque, Session: s.id, Generation: g.generation, Err: err})
}

func (s *session) write(g *leg, b []byte) (rest []byte, outcome upEnd) {
	g.settled.Store(false)
	s.sent.Add(1) // before the server can answer
	n, err := g.Write(b)
	g.bytes.Add(int64(n))
	s.p.count.up.Add(int64(n))
	if n == 0 {
		s.sent.Add(^uint64(0))
	} else {
		s.touch()
	}
	if err != nil {
		return b[n:], upBroken
	}
	return nil, upNone
}
