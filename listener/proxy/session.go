package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// session is one client. Its owner is the goroutine of run, which also moves the server's bytes; the
// up pump, a second goroutine, moves the client's. Others reach them by interrupting their reads.
//
// Lock order: Proxy.mu, session.mu, operation.mu.
type session struct {
	p      *Proxy
	id     uint64
	client *link
	greet  []byte        // PROXY header, the first bytes of every leg; nil: none
	http   *exchange     // nil: bytes are just bytes
	wake   chan struct{} // one slot: something changed, for an owner that does not read
	last   atomic.Int64  // when something moved, in ns since 1970

	sent     atomic.Uint64 // transfers to a server
	answered atomic.Uint64 // value of sent at the server's last word
	turns    atomic.Uint64 // transfers that the server answered

	mu       sync.Mutex
	leg      *leg               // nil: parked
	dialing  context.CancelFunc // ends a dial under way
	ready    bool               // the header was read
	ended    bool
	held     bool       // by Proxy.Hold
	op       *operation // that waits for this session's answer
	trying   bool       // holds by itself, to move
	dirty    bool       // the owner has something to look at
	pumping  bool       // the up pump runs, and has carry
	stopped  chan struct{}
	outcome  upEnd  // of the last run of the up pump
	carry    []byte // of the client, read and not sent to anybody
	finished bool   // the client has ended its direction

	// the owner's
	serverEnded bool      // the server has ended its direction, and the client was told
	watching    bool      // flowDown returns after each transfer
	notBefore   time.Time // for another attempt to move by itself
	left        bool      // had a leg that ended under it
}

// leg is a session's connection to a server.
type leg struct {
	*link
	generation int
	bytes      atomic.Int64 // sent on it
	settled    atomic.Bool  // was quiet, and nothing was sent since
}

var (
	errKilled  = errors.New("proxy: ended")
	errRefused = errors.New("proxy: refused")
)

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
	return s.held || s.op != nil || s.trying || s.leg == nil
}

// answerLocked the operation that waits, if any.
func (s *session) answerLocked(done bool) {
	if s.op != nil {
		s.op.answer(done)
		s.op = nil
	}
}

// stayLocked answers that the session was not moved.
func (s *session) stayLocked(cause error) {
	op := s.op
	if op == nil {
		return
	}
	s.answerLocked(false)
	s.p.count.stayed.Add(1)
	generation := 0
	if s.leg != nil {
		generation = s.leg.generation
	}
	s.p.config.Observe(Event{Kind: Stayed, Session: s.id, Generation: generation, Err: cause})
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

func (s *session) reset() {
	s.p.count.reset.Add(1)
	s.client.abort()
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
