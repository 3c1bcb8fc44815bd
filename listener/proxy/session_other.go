//go:build !linux || goroutines

package proxy

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// session of goroutines: its owner is that of run, which also moves the server's bytes; the up pump, a
// second one, moves the client's. Others reach them by interrupting their reads.
type session struct {
	state
	client  *link
	wake    chan struct{}      // one slot: something changed, for an owner that does not read
	dialing context.CancelFunc // under mu: ends a dial under way
	pumping bool               // under mu: the up pump runs, and has carry
	stopped chan struct{}
}

// leg is a session's connection to a server.
type leg struct {
	*link
	generation int
	bytes      atomic.Int64 // sent on it
	settled    atomic.Bool  // was quiet, and nothing was sent since
	left       time.Time    // under the session's mu: when its server had said all that it will; zero: it has not
}

var (
	errKilled  = errors.New("proxy: ended")
	errRefused = errors.New("proxy: refused")
)

func newSession(p *Proxy, c net.Conn) *session {
	return &session{state: state{p: p}, client: newLink(c), wake: make(chan struct{}, 1)}
}

func (g *leg) unsent() int { return unsent(g.Conn) }

func (s *session) flowingLocked() bool { return s.pumping }

func (s *session) touch() { s.last.Store(time.Now().UnixNano()) }

// interrupt makes the owner look around.
func (s *session) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interruptLocked()
}

func (s *session) interruptLocked() {
	s.dirty = true
	if s.leg != nil {
		_ = s.leg.SetReadDeadline(past) // closed: the owner sees that
	}
	if s.dialing != nil {
		s.dialing()
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pauseLocked stops the up pump, at a boundary if there are any.
func (s *session) pauseLocked() {
	if s.pumping {
		_ = s.client.SetReadDeadline(past) // closed: the pump sees that
	}
	s.interruptLocked()
}

func (s *session) wantPauseLocked() bool {
	return s.held || s.op != nil || s.trying || s.leg == nil || !s.leg.left.IsZero()
}

func (s *session) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client.abort()
	if s.leg != nil {
		s.leg.abort()
	}
	s.interruptLocked()
}

// expire kills the session if nothing moved since before (ns since 1970). A parked one waits for a server.
func (s *session) expire(before int64) {
	s.mu.Lock()
	idle := s.leg != nil && !s.wantPauseLocked() && s.last.Load() < before && !s.ended
	if idle {
		s.ended = true
	}
	s.mu.Unlock()
	if idle {
		s.p.count.idle.Add(1)
		s.p.config.Observe(Event{Kind: TimedOut, Session: s.id})
		s.kill()
	}
}

// run owns the session from accept to end.
func (s *session) run() {
	defer s.end()
	if err := s.p.tune(s.client.Conn); err != nil {
		s.reset()
		return
	}
	if err := s.introduce(); err != nil {
		s.p.count.rejected.Add(1)
		s.p.config.Observe(Event{Kind: HeaderRejected, Session: s.id, Err: err})
		s.reset()
		return
	}
	s.p.count.parked.Add(1)
	for {
		g, err := s.connect()
		s.p.count.parked.Add(-1)
		if err != nil {
			s.reset()
			return
		}
		if s.serve(g) == over {
			return
		}
		s.p.count.parked.Add(1)
	}
}

// introduce reads the client's PROXY header and makes ours.
func (s *session) introduce() error {
	h, rest, err := readHeader(s.client.Conn, s.p.config.HeaderIn)
	if err != nil {
		return err
	}
	if s.p.config.HeaderOut {
		o, err := newOrigin(s.client.Conn, h)
		if err != nil {
			return err
		}
		if s.greet, err = o.format(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carry, s.ready = rest, true
	return nil
}

// end releases everything. The connections were ended or aborted by who decided it.
func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	g := s.leg
	s.leg = nil
	stopped := s.stopped
	s.answerLocked(true)
	s.mu.Unlock()
	_ = s.client.Close() // closed already, or both directions have ended
	if g != nil {
		_ = g.Close() // same
	}
	if stopped != nil {
		<-stopped
	}
}

// connect waits until there is a server to connect to, and connects.
func (s *session) connect() (*leg, error) {
	const least, most = 5 * time.Millisecond, 500 * time.Millisecond
	pause := least
	var failing time.Time // since when; zero: not
	var last *target
	for {
		s.mu.Lock()
		s.dirty = false
		ended, held := s.ended, s.held
		s.mu.Unlock()
		t := s.p.target.Load() // after dirty: a change from here on is seen
		if t != last {
			last, pause, failing = t, least, time.Time{}
		}
		switch {
		case ended, s.p.ctx.Err() != nil:
			return nil, errKilled
		case s.p.refuses():
			return nil, errRefused
		case t == nil || held || s.p.config.Departed(t.Generation):
			s.sleep(0)
			continue
		}
		g, err := s.dial(t)
		if err == nil {
			if s.install(g) {
				if s.left {
					s.left = false
					s.p.count.resumed.Add(1)
				}
				return g, nil
			}
			return nil, errKilled
		}
		s.mu.Lock()
		dirty := s.dirty
		s.mu.Unlock()
		if dirty {
			continue // the dial may have been ended for that
		}
		now := time.Now()
		if failing.IsZero() {
			failing = now
		}
		if now.Sub(failing) >= s.p.config.Dial {
			s.p.config.Observe(Event{Kind: DialFailed, Session: s.id, Generation: t.Generation, Err: err})
			return nil, err
		}
		s.sleep(pause)
		pause = min(pause*2, most)
	}
}

// sleep until woken, or for d if that is not 0.
func (s *session) sleep(d time.Duration) {
	var late <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-s.wake:
	case <-late:
	case <-s.p.ctx.Done():
	}
}

// dial once, and greet. interrupt ends it.
func (s *session) dial(t *target) (*leg, error) {
	ctx, cancel := context.WithTimeout(s.p.ctx, s.p.config.Dial)
	defer cancel()
	s.mu.Lock()
	if s.dirty {
		s.mu.Unlock()
		return nil, context.Canceled
	}
	s.dialing = cancel
	s.mu.Unlock()
	c, err := t.Dial(ctx)
	s.mu.Lock()
	s.dialing = nil
	s.mu.Unlock()
	if err == nil {
		if err = s.p.tune(c); err == nil && len(s.greet) > 0 {
			stamp(s.greet, t.Generation)
			// A new connection's send buffer takes a header at once.
			_, err = c.Write(s.greet)
		}
		if err != nil {
			_ = c.Close() // it is of no use
		}
	}
	if err != nil {
		if ctx.Err() != context.Canceled { // interrupted
			s.p.count.dialFailed.Add(1)
		}
		return nil, err
	}
	return &leg{link: newLink(c), generation: t.Generation}, nil
}

// install g as the leg; false: the session has ended meanwhile, and g is closed.
func (s *session) install(g *leg) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.p.ctx.Err() != nil {
		g.abort()
		return false
	}
	s.leg = g
	s.outcome = upNone
	s.answered.Store(s.sent.Load())
	s.trying = false
	if s.op != nil && s.op.to != nil && s.op.to.Generation == g.generation {
		s.answerLocked(true)
	}
	s.touch()
	return true
}

// unhook takes g from the session, closes it, and joins the up pump. What that had not sent is carry.
func (s *session) unhook(g *leg) {
	s.mu.Lock()
	s.leg = nil
	stopped, pumping := s.stopped, s.pumping
	if pumping {
		_ = s.client.SetReadDeadline(past) // closed: the pump sees that
	}
	s.mu.Unlock()
	g.abort()
	if pumping {
		<-stopped
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.client.SetReadDeadline(time.Time{}) // closed: the next read sees that
}
