//go:build !linux || goroutines

package proxy

import (
	"io"
	"time"
)

// spliceChunk is how much is moved inside the kernel before anybody looks, and spliceWait how long a
// stream may pause before that ends.
const (
	spliceChunk = 1 << 20
	spliceWait  = 50 * time.Millisecond
)

// serve moves bytes on legs, from g on, until the session has ended or has lost its leg.
func (s *session) serve(g *leg) fate {
	for {
		s.startUp()
		if ended := s.settleUp(g); ended {
			return over
		}
		at, move := s.plan(g)
		if move {
			next, f, ok := s.shift(g)
			switch {
			case !ok:
				return f
			case next != nil:
				g = next
			}
			continue
		}
		if s.serverEnded {
			s.sleep(0)
			if s.p.ctx.Err() != nil {
				return over
			}
			s.mu.Lock()
			s.dirty = false
			s.mu.Unlock()
			continue
		}
		if !s.arm(g, at) {
			continue
		}
		err := s.flowDown(g)
		if timeout(err) && s.heardOut(g) {
			err = io.EOF
		}
		switch {
		case timeout(err), err == errTurn:
		case err == errClient:
			g.abort()
			return over
		default:
			if f, decided := s.legEnded(g, err); decided {
				return f
			}
		}
	}
}

// settleUp draws the consequences of the up pump's end; true: the session has ended.
func (s *session) settleUp(g *leg) bool {
	s.mu.Lock()
	pumping, outcome, finished, ended := s.pumping, s.outcome, s.finished, s.ended
	if !pumping && outcome == upEOF {
		s.finished = true
	}
	s.mu.Unlock()
	switch {
	case ended:
		return true
	case pumping:
		return false
	}
	switch outcome {
	case upEOF:
		if !finished {
			_ = g.end() // broken: its reader sees that
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

// arm the owner's read with a deadline; false: there is something to look at first.
func (s *session) arm(g *leg, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dirty {
		s.dirty = false
		return false
	}
	if end := s.silentFromLocked(g); !end.IsZero() && (at.IsZero() || end.Before(at)) {
		at = end
	}
	_ = g.SetReadDeadline(at) // closed: the read sees that
	return true
}

// shift the session from g to the target while g's server runs. next is nil when it stays on g; ok is
// false when the session has another fate. Precondition: the up pump does not run, and g is quiet.
func (s *session) shift(g *leg) (next *leg, f fate, ok bool) {
	t := s.p.target.Load()
	next, err := s.dial(t)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.dirty { // it may have been ended for that
			s.dirty = false
			return nil, over, true
		}
		s.p.config.Observe(Event{Kind: DialFailed, Session: s.id, Generation: t.Generation, Err: err})
		s.stayLocked(err)
		s.trying = false
		s.notBefore = time.Now().Add(time.Second)
		s.startUpLocked()
		return nil, over, true
	}
	if s.http == nil {
		if err := s.conclude(g, t.settle); err != nil {
			next.abort()
			g.abort()
			s.client.abort()
			return nil, over, false
		}
	}
	_ = g.Close() // all was said
	s.mu.Lock()
	s.leg = nil
	s.mu.Unlock()
	if !s.install(next) {
		return nil, over, false
	}
	s.p.count.moved.Add(1)
	return next, over, true
}

// conclude tells g's server that the client has ended, and delivers what it says until it has ended too:
// the proof that nothing is in flight. A server that does not care is left when it is quiet after
// settle.Max.
func (s *session) conclude(g *leg, settle Settle) error {
	_ = g.end() // broken: the reader sees that
	until := time.Now().Add(settle.Max)
	s.watching = true
	defer func() { s.watching = false }()
	for {
		s.mu.Lock()
		at := time.Unix(0, s.last.Load()).Add(settle.Quiet)
		if at.Before(until) {
			at = until
		}
		_ = g.SetReadDeadline(at) // closed: the read sees that
		s.mu.Unlock()
		switch err := s.flowDown(g); {
		case s.p.ctx.Err() != nil, err == errClient:
			return errClient
		case err == errTurn:
		case timeout(err):
			if !time.Now().Before(at) {
				s.p.count.unconfirmed.Add(1)
				s.p.config.Observe(Event{Kind: Unconfirmed, Session: s.id, Generation: g.generation})
				return nil
			}
		default: // its end, or a reset after it had been quiet
			return nil
		}
	}
}

// flowDown moves g's bytes to the client until the deadline, g's end, or an error.
func (s *session) flowDown(g *leg) error {
	for {
		buffer, n, err := g.read(s.p.buffers)
		if err != nil {
			return err
		}
		s.heard()
		complete := false
		if s.http != nil && !s.http.pinned() {
			if complete, err = s.http.response((*buffer)[:n]); err != nil {
				s.opaque(g, err)
				complete = true
			}
		}
		_, err = s.client.Write((*buffer)[:n])
		full := n == len(*buffer)
		s.p.buffers.put(buffer)
		if err != nil {
			return errClient
		}
		s.p.count.down.Add(int64(n))
		s.touch()
		if complete {
			s.startUp()
		}
		if s.watching {
			return errTurn
		}
		if full && (s.http == nil || s.http.pinned()) {
			if err := s.bulk(g); err != nil {
				return err
			}
		}
	}
}

// bulk moves a stream inside the kernel for as long as it flows. What it takes from g it gives to the
// client, or the client is gone: nothing is lost.
func (s *session) bulk(g *leg) error {
	for {
		s.mu.Lock()
		if s.dirty {
			s.mu.Unlock()
			return errTurn
		}
		_ = g.SetReadDeadline(time.Now().Add(spliceWait)) // closed: the read sees that
		s.mu.Unlock()
		n, ok, err := splice(s.client.Conn, g.Conn, spliceChunk)
		if n > 0 {
			s.p.count.down.Add(n)
			s.heard()
		}
		switch {
		case !ok:
			return errTurn
		case timeout(err):
			if n == 0 {
				return errTurn
			}
		case err != nil:
			// Which side failed? A server's end or reset is met again by the next read.
			return errTurn
		case n < spliceChunk: // the server's end
			return io.EOF
		}
	}
}
