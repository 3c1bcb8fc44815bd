//go:build !goroutines

package proxy

import "time"

// session of an event loop: two sockets and what is known of them. Its owner is the loop; all that is not
// in state is the loop's alone.
type session struct {
	state
	loop   *loop
	ticket ticket
	client sock
	up     flow
	down   flow
	told   bool // under mu: the loop has post about it
	killed bool // under mu

	entered bool  // its header was read
	parked  bool  // counted so
	side    uint8 // of the newest leg
	alarm   int64 // when the loop looks at it, in ns since 1970; 0: when something happens
	place   int32 // among the alarms, if it has one
	moving  bool  // see moves
	queued  bool  // same

	search
	intro *introduction // nil: no header is awaited
	next  *leg          // the successor's, while the last words of the old one are read
	until time.Time     // how long those are waited for
	quiet time.Duration // see Settle
}

// leg is a session's connection to a server.
type leg struct {
	sock
	generation int
	side       uint8
	bytes      counter // sent on it
	settled    flag    // was quiet, and nothing was sent since
	left       bool    // under the session's mu: see Proxy.Left
}

// counter and flag are plain words with the methods of those that goroutines share.
type (
	counter int64
	flag    bool
)

func (c *counter) Load() int64 { return int64(*c) }
func (c *counter) Add(n int64) { *c += counter(n) }
func (f *flag) Load() bool     { return bool(*f) }
func (f *flag) Store(b bool)   { *f = flag(b) }

// Sides of a session, as its events name them. Its legs have those from sideLeg on in turns.
const (
	sideClient uint8 = 0
	sideLeg    uint8 = 1
	sides      uint8 = 4
)

// verdict of a look at a session.
type verdict int

const (
	waits verdict = iota // for something to happen
	again                // it had its turn and has more to do
	done                 // it has ended
)

// note an event of a socket.
func (s *session) note(side uint8, events uint32) {
	switch {
	case side == sideClient:
		s.client.note(events)
	case s.leg != nil && s.leg.side == side:
		s.leg.note(events)
	case s.next != nil && s.next.side == side:
		s.next.note(events)
	case s.attempt != nil:
		s.attempt.note(side, events)
	}
}

func (s *session) touch() { s.last.Store(s.loop.now) }

// interrupt makes the loop look at the session.
func (s *session) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interruptLocked()
}

func (s *session) interruptLocked() {
	s.dirty = true
	if !s.told && !s.ended {
		s.told = s.loop.post(message{to: s})
	}
}

// pauseLocked makes the loop find out that the client is not read any more.
func (s *session) pauseLocked() { s.interruptLocked() }

// startUpLocked makes the loop find out that it is.
func (s *session) startUpLocked() { s.interruptLocked() }

func (s *session) wantPauseLocked() bool {
	return s.held || s.op != nil || s.trying || s.leg == nil || s.leg.left || s.next != nil
}

// flowingLocked is true while bytes of either direction are with us.
func (s *session) flowingLocked() bool { return s.up.pending() || s.down.pending() }

func (s *session) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killed = true
	s.interruptLocked()
}

// abort both connections.
func (s *session) abort() {
	s.client.abort()
	if s.leg != nil {
		s.leg.abort()
	}
}

// wakeAt has the loop look at the session, then or sooner.
func (s *session) wakeAt(t time.Time) {
	at := t.UnixNano()
	if s.alarm == 0 || at < s.alarm {
		s.loop.alarms.set(s, at)
	}
}

// expired ends the session if nothing moved for Config.Idle. A parked one waits for a server.
func (l *loop) expired(s *session) bool {
	s.mu.Lock()
	idle := s.leg != nil && !s.wantPauseLocked() && s.last.Load() <= l.now-l.wheel.idle
	s.mu.Unlock()
	if idle {
		l.p.count.idle.Add(1)
		l.p.config.Observe(Event{Kind: TimedOut, Session: s.id})
		s.abort()
		l.drop(s)
	}
	return idle
}

// end releases everything. The connections were ended or aborted by who decided it.
func (s *session) end() {
	s.dropAttempt()
	s.leaveMove()
	s.park(false)
	if s.next != nil {
		s.next.abort()
	}
	s.mu.Lock()
	s.ended = true
	g := s.leg
	s.leg = nil
	s.answerLocked(true)
	s.mu.Unlock()
	s.client.close() // closed already, or both directions have ended
	if g != nil {
		g.close() // same
	}
	s.up.release(s.p.buffers, &s.loop.pipes)
	s.down.release(s.p.buffers, &s.loop.pipes)
}

// park counts the session as one without a leg, or not.
func (s *session) park(now bool) {
	if s.parked == now {
		return
	}
	s.parked = now
	if now {
		s.p.count.parked.Add(1)
	} else {
		s.p.count.parked.Add(-1)
	}
}

// unhook takes g from the session and resets it. What it had not taken is carry.
func (s *session) unhook(g *leg) {
	s.mu.Lock()
	s.leg = nil
	s.mu.Unlock()
	g.abort()
	s.rescue()
}

// rescue what is on its way to a leg that is broken: carry goes to the next one. Of an HTTP request that
// is the rest, which nobody sends: the whole of it is sent again, or the client is reset.
func (s *session) rescue() {
	if !s.up.pending() {
		return
	}
	s.outcome = upBroken
	b, err := s.up.take(s.p.buffers, &s.loop.pipes)
	if err != nil || s.http != nil {
		return // a pipe of ours that cannot be read: what was in it is in flight
	}
	s.carry = append(b, s.carry...)
}

// look at a session: do all that can be done without waiting.
func (s *session) advance() verdict {
	s.mu.Lock()
	s.dirty, s.told = false, false
	killed := s.killed
	s.mu.Unlock()
	if killed {
		s.abort()
		return done
	}
	if !s.entered {
		if v := s.introduce(); v != again {
			return v
		}
	}
	for {
		if s.leg == nil {
			if v := s.seek(); v != again {
				return v
			}
		}
		if v, ok := s.serve(s.leg); ok {
			return v
		}
	}
}
