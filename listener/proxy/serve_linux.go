//go:build !goroutines

package proxy

import (
	"io"
	"time"
)

// turns are how many transfers in one direction a session makes before others have theirs.
const turns = 8

// serve moves what can be moved between the client and g, and looks after operations. ok is false when
// the session has lost its leg, or has another one, and there is something to do at once.
func (s *session) serve(g *leg) (v verdict, ok bool) {
	more := false
	if !s.serverEnded {
		switch err := s.flowDown(g); {
		case err == errAgain:
		case err == errTurn:
			more = true
		case err == errClient:
			g.abort()
			return done, true
		case s.next != nil: // its end, or a reset after it had been quiet
			s.cross(g)
			return waits, false
		default:
			if f, decided := s.legEnded(g, err); decided {
				if f == over {
					return done, true
				}
				s.park(true)
				return waits, false
			}
		}
	}
	more = s.flowUp(g) || more
	if s.settleUp(g) {
		return done, true
	}
	if s.next != nil {
		return s.conclude(g, more)
	}
	at, move := s.plan(g)
	switch {
	case move:
		return s.shift(g)
	case s.attempt != nil:
		s.dropAttempt() // it is not quiet any more, or not to be moved
	}
	if !at.IsZero() {
		s.wakeAt(at)
	}
	if more {
		return again, true
	}
	return waits, true
}

// settleUp draws the consequences of the client's end; true: the session has ended.
func (s *session) settleUp(g *leg) bool {
	switch s.outcome {
	case upEOF:
		if !s.finished {
			s.finished = true
			_ = g.end() // broken: its reader sees that
		}
		if s.client.broken { // reset after its end
			g.abort()
			s.client.abort()
			return true
		}
		return s.serverEnded
	case upLost:
		g.abort()
		s.client.abort()
		return true
	case upBroken:
		if s.serverEnded { // the server has closed, and the client still sends
			s.reset()
			return true
		}
	}
	return false
}

// flowDown moves g's bytes to the client. It gives errAgain when one of them has to act first, errTurn
// when there is more, errClient, or how g ended.
func (s *session) flowDown(g *leg) error {
	pool, pipes := s.p.buffers, &s.loop.pipes
	for range turns {
		if s.down.pending() {
			if !s.client.writable {
				return errAgain
			}
			n, err := s.down.drain(&s.client, pool, pipes)
			s.delivered(n)
			if err != nil {
				return clientError(err)
			}
		}
		if !g.readable {
			s.down.rest(pipes)
			return errAgain
		}
		framed := s.http != nil && !s.http.pinned()
		if s.down.bulk && !framed {
			switch _, err := s.down.fill(&g.sock, pipes); err {
			case nil:
				s.heard()
				continue
			case errAgain, errUnable:
			default:
				return err
			}
			if !g.readable {
				continue
			}
		}
		s.down.rest(pipes)
		b := s.loop.buffer
		n, err := g.read(b)
		if err == errAgain {
			continue
		}
		if err != nil {
			return err
		}
		s.heard()
		if framed {
			if _, err := s.http.response(b[:n]); err != nil {
				s.opaque(g, err)
			}
		}
		s.down.bulk = n == len(b)
		w, err := s.client.write(b[:n])
		s.delivered(w)
		switch {
		case err == errAgain:
			s.down.keep(pool, b[w:n])
			return errAgain
		case err != nil:
			return errClient
		}
	}
	return errTurn
}

func clientError(err error) error {
	if err == errAgain {
		return err
	}
	return errClient
}

func (s *session) delivered(n int) {
	if n > 0 {
		s.p.count.down.Add(int64(n))
		s.touch()
	}
}

// flowUp moves the client's bytes to g; more: it could go on.
func (s *session) flowUp(g *leg) (more bool) {
	pool, pipes := s.p.buffers, &s.loop.pipes
	for range turns {
		if s.up.pending() {
			if !g.writable {
				return false
			}
			n, err := s.up.drain(&g.sock, pool, pipes)
			s.sentTo(g, n)
			if err == errAgain {
				return false
			}
			if err != nil {
				s.outcome = upBroken
				s.rescue()
			}
		}
		if s.outcome != upNone || s.paused() || !s.client.readable && len(s.carry) == 0 {
			s.up.rest(pipes)
			return false
		}
		if b := s.carry; len(b) > 0 {
			s.carry = nil
			if s.forward(g, b); len(s.carry) == len(b) {
				return false // the next request waits for a response
			}
			continue
		}
		if s.up.bulk && (s.http == nil || s.http.pinned()) {
			g.settled.Store(false)
			switch _, err := s.up.fill(&s.client, pipes); err {
			case nil:
				s.touch()
				continue
			case errAgain, errUnable:
			default:
				s.lostClient(err)
				continue
			}
			if !s.client.readable {
				continue
			}
		}
		s.up.rest(pipes)
		b := s.loop.buffer
		n, err := s.client.read(b)
		switch {
		case err == errAgain:
			continue
		case err != nil:
			s.lostClient(err)
			continue
		}
		s.touch()
		s.up.bulk = n == len(b)
		s.forward(g, b[:n])
	}
	return true
}

func (s *session) lostClient(err error) {
	if s.outcome = upLost; err == io.EOF {
		s.outcome = upEOF
	}
}

// paused is true when the client is not to be read: at a boundary, if there are any.
func (s *session) paused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wantPauseLocked() && (s.http == nil || s.http.pinned() || s.http.up.between())
}

// forward b, up to where the client's direction has to stop: what is left is carry.
func (s *session) forward(g *leg, b []byte) {
	for len(b) > 0 {
		n := min(len(b), len(s.loop.buffer)) // what a leg was not able to take may be more
		if s.http != nil && !s.http.pinned() {
			if s.http.up.between() && (!s.http.boundary() || s.paused()) {
				s.keepCarry(b)
				return
			}
			k, err := s.http.request(b[:n])
			if err != nil {
				s.opaque(g, err)
				continue
			}
			n = k
		}
		s.write(g, b[:n])
		if b = b[n:]; s.outcome == upBroken || s.up.pending() {
			s.keepCarry(b)
			return
		}
	}
}

// keepCarry has b sent after what is carry already.
func (s *session) keepCarry(b []byte) {
	if len(b) > 0 {
		s.carry = append(s.carry[:len(s.carry):len(s.carry)], b...)
	}
}

// opaque stops following HTTP: the session stays with its server to the end.
func (s *session) opaque(g *leg, err error) {
	s.http.pin()
	s.p.count.opaque.Add(1)
	s.p.config.Observe(Event{Kind: Opaque, Session: s.id, Generation: g.generation, Err: err})
}

func (s *session) write(g *leg, b []byte) {
	g.settled.Store(false)
	n, err := g.write(b)
	s.sentTo(g, n)
	switch {
	case err == errAgain:
		s.up.keep(s.p.buffers, b[n:])
	case err != nil:
		if s.outcome = upBroken; s.http == nil {
			s.keepCarry(b[n:])
		}
	}
}

func (s *session) sentTo(g *leg, n int) {
	if n > 0 {
		s.sent.Add(1)
		g.bytes.Add(int64(n))
		s.p.count.up.Add(int64(n))
		s.touch()
	}
}

// shift the session from g to the target while g's server runs. Precondition: g is quiet.
func (s *session) shift(g *leg) (verdict, bool) {
	if !s.takeMove() {
		return waits, true
	}
	t := s.p.target.Load()
	next, err := s.reach(t)
	switch {
	case err == errAgain:
		return waits, true
	case err != nil:
		s.leaveMove()
		s.p.config.Observe(Event{Kind: DialFailed, Session: s.id, Generation: t.Generation, Err: err})
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stayLocked(err)
		s.trying = false
		s.notBefore = time.Now().Add(time.Second)
		return again, true
	}
	s.next = next
	if s.http != nil {
		s.cross(g)
		return waits, false
	}
	_ = g.end() // broken: the reader sees that
	s.until, s.quiet = time.Now().Add(t.settle.Max), t.settle.Quiet
	return again, true
}

// conclude waits for what g's server says after it was told that the client has ended, until it ends
// too: the proof that nothing is in flight. A server that does not care is left when it is quiet after
// settle.Max.
func (s *session) conclude(g *leg, more bool) (verdict, bool) {
	at := time.Unix(0, s.last.Load()).Add(s.quiet)
	if at.Before(s.until) {
		at = s.until
	}
	switch {
	case more:
		return again, true
	case s.down.pending(): // until the client takes it
		return waits, true
	case time.Now().Before(at):
		s.wakeAt(at)
		return waits, true
	}
	s.p.count.unconfirmed.Add(1)
	s.p.config.Observe(Event{Kind: Unconfirmed, Session: s.id, Generation: g.generation})
	s.cross(g)
	return waits, false
}

// cross from g, whose server has said all, to next.
func (s *session) cross(g *leg) {
	g.close()
	s.mu.Lock()
	s.leg = nil
	s.mu.Unlock()
	next := s.next
	s.next = nil
	s.p.count.moved.Add(1) // before it is answered for
	s.install(next)
}
