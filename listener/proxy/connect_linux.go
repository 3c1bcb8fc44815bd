//go:build !goroutines

package proxy

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// search is how a session finds a server.
type search struct {
	attempt *attempt      // under way, or over and not looked at; nil: none
	wanted  *target       // of the last attempt
	pause   time.Duration // after the next one that fails
	failing int64         // since when attempts fail, in ns since 1970; 0: they do not
	notYet  int64         // before which there is no other
}

const leastRetry, mostRetry = 5 * time.Millisecond, 500 * time.Millisecond

// attempt to connect. It is the loop's, except for result, which the goroutine of a dial writes before it
// posts the attempt.
type attempt struct {
	target    *target
	cancel    context.CancelFunc // of its goroutine; nil: it has none
	until     int64              // of one without
	*endpoint                    // same
	over      bool
	leg       *leg
	err       error
	result    *dialResult // of a goroutine
}

// dialResult is what a goroutine found: a connection, where there is one to be made (errDirect), or an error.
type dialResult struct {
	sock     sock
	endpoint *endpoint
	err      error
}

// note an event of a socket that is being connected.
func (a *attempt) note(side uint8, events uint32) {
	if a.leg == nil || a.leg.side != side {
		return
	}
	a.leg.note(events)
	if a.over || !a.leg.writable {
		return
	}
	a.over = true
	if a.leg.broken {
		a.err = os.NewSyscallError("connect", a.leg.failure())
	}
	if a.err == nil {
		a.err = a.connected(int(a.leg.fd))
	}
	if a.err != nil {
		a.leg.close()
	}
}

// seek a server for a session without one; again: it has one.
func (s *session) seek() verdict {
	t := s.p.target.Load()
	if t != s.wanted {
		s.wanted, s.pause, s.failing, s.notYet = t, leastRetry, 0, 0
	}
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	switch {
	case s.client.broken: // it will not come back
		s.client.abort()
		return done
	case s.p.refuses():
		s.reset()
		return done
	case t == nil || held || s.departed(t.Generation):
		s.dropAttempt()
		return waits
	case s.attempt == nil && s.loop.now < s.notYet:
		s.wakeAt(time.Unix(0, s.notYet))
		return waits
	}
	g, err := s.reach(t)
	switch {
	case err == errAgain:
		return waits
	case err == nil:
		if s.left {
			s.left = false
			s.p.count.resumed.Add(1) // before it is answered for
		}
		s.install(g)
		return again
	}
	if s.failing == 0 {
		s.failing = s.loop.now
	}
	if s.loop.now-s.failing >= int64(s.p.config.Dial) {
		s.p.config.Observe(Event{Kind: DialFailed, Session: s.id, Generation: t.Generation, Err: err})
		s.reset()
		return done
	}
	s.notYet = s.loop.now + int64(s.pause)
	s.pause = min(s.pause*2, mostRetry)
	s.wakeAt(time.Unix(0, s.notYet))
	return waits
}

// departed asks Config.Departed. For a client that had no server yet, what is some milliseconds old will do: a
// generation may go at any moment after it was asked about anyway.
func (s *session) departed(generation int) bool {
	const some = 5 * time.Millisecond
	l := s.loop
	fresh := l.alive == generation && l.now-l.lookedAt < int64(some)
	if fresh && s.side == sideClient {
		return false
	}
	if l.p.config.Departed(generation) {
		return true
	}
	l.alive, l.lookedAt = generation, l.now
	return false
}

// reach gives a leg to t, or errAgain until an attempt is over.
func (s *session) reach(t *target) (*leg, error) {
	if s.attempt != nil && s.attempt.target != t {
		s.dropAttempt()
	}
	if s.attempt == nil {
		s.attempt = s.begin(t)
	}
	a := s.attempt
	if !a.over && a.cancel == nil && s.loop.now >= a.until {
		a.leg.close()
		a.over, a.err = true, os.NewSyscallError("connect", unix.ETIMEDOUT)
	}
	if !a.over {
		if a.cancel == nil {
			s.wakeAt(time.Unix(0, a.until))
		}
		return nil, errAgain
	}
	s.attempt = nil
	if a.err == nil && len(s.greet) > 0 {
		stamp(s.greet, t.Generation)
		// A new connection's send buffer takes a header at once.
		if _, a.err = a.leg.write(s.greet); a.err != nil {
			a.leg.close()
		}
	}
	if a.err != nil {
		s.p.count.dialFailed.Add(1)
		return nil, a.err
	}
	return a.leg, nil
}

// begin an attempt.
func (s *session) begin(t *target) *attempt {
	if l := s.loop; l.known == t {
		if !l.endpoint.left() {
			return s.beginDirect(t, l.endpoint)
		}
		l.known = nil
	}
	a := &attempt{target: t, result: &dialResult{}}
	ctx, cancel := context.WithTimeout(s.p.ctx, s.p.config.Dial)
	a.cancel = cancel
	p, l := s.p, s.loop // s may be another client's when this is over
	p.group.Go(func() {
		defer cancel()
		c, err := t.Dial(context.WithValue(ctx, directKey{}, a.result))
		if err == nil {
			if err = p.tune(c); err != nil {
				_ = c.Close() // it is of no use
			}
		}
		if err == nil {
			a.result.sock, err = detach(c)
		}
		a.result.err = err
		if !l.post(message{to: s, attempt: a}) && err == nil {
			a.result.sock.close()
		}
	})
	return a
}

// dialed takes the result of an attempt's goroutine.
func (s *session) dialed(a *attempt) {
	switch {
	case s.attempt != a: // nobody waits for it any more
		if a.result.err == nil {
			a.result.sock.close()
		}
	case errors.Is(a.result.err, errDirect):
		s.attempt = nil // the next one is without a goroutine
		s.loop.known, s.loop.endpoint = a.target, a.result.endpoint
	case a.result.err != nil:
		a.over, a.err = true, a.result.err
	default:
		a.over = true
		a.leg = s.newLeg(a.target, a.result.sock)
		if a.err = s.watchLeg(a.leg); a.err != nil {
			a.leg.close()
		}
	}
}

// newLeg has a side that no other has, nor the last one that was dropped: its events may still come.
func (s *session) newLeg(t *target, k sock) *leg {
	taken := func(g *leg) bool { return g != nil && g.side == s.side }
	for again := true; again; again = taken(s.leg) || taken(s.next) {
		s.side = max((s.side+1)%sides, sideLeg)
	}
	return &leg{sock: k, generation: t.Generation, side: s.side}
}

func (s *session) watchLeg(g *leg) error {
	return s.loop.watch(int(g.fd), edges, s.ticket, g.side)
}

// dropAttempt ends one that is under way.
func (s *session) dropAttempt() {
	s.leaveMove()
	a := s.attempt
	if a == nil {
		return
	}
	s.attempt = nil
	if a.cancel != nil {
		a.cancel()
	}
	if a.leg != nil {
		a.leg.close()
	}
}

// install g as the leg.
func (s *session) install(g *leg) {
	s.park(false)
	s.loop.alarms.clear(s) // it was about connecting
	s.leaveMove()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leg = g
	s.outcome = upNone
	s.answered.Store(s.sent.Load())
	s.trying = false
	if s.op != nil && s.op.to != nil && s.op.to.Generation == g.generation {
		s.answerLocked(true)
	}
	s.touch()
}
