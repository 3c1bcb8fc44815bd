package proxy

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// state is what a session is, whatever moves its bytes. Its owner is one goroutine: of the session's own
// (session_other.go) or of an event loop (loop_linux.go). Others tell it by interrupting it.
//
// Lock order: Proxy.mu, session.mu, operation.mu.
type state struct {
	p     *Proxy
	id    uint64
	greet []byte       // PROXY header, the first bytes of every leg, see stamp; nil: none
	http  *exchange    // nil: bytes are just bytes
	last  atomic.Int64 // when something moved, in ns since 1970

	sent     atomic.Uint64 // transfers to a server
	answered atomic.Uint64 // value of sent at the server's last word
	turns    atomic.Uint64 // transfers that the server answered

	mu       sync.Mutex
	leg      *leg       // nil: parked
	op       *operation // that waits for this session's answer
	carry    []byte     // of the client, read and not sent to anybody
	outcome  upEnd      // of the client's direction on this leg
	ready    bool       // the header was read
	ended    bool
	held     bool // by Proxy.Hold
	trying   bool // holds by itself, to move
	dirty    bool // the owner has something to look at
	finished bool // the client has ended its direction

	// the owner's
	serverEnded bool      // the server has ended its direction, and the client was told
	watching    bool      // flowDown returns after each transfer
	left        bool      // had a leg that ended under it
	notBefore   time.Time // for another attempt to move by itself
}

// upEnd is why the up pump stopped.
type upEnd int

const (
	upNone   upEnd = iota // it never ran on this leg
	upPaused              // asked to
	upOwed                // HTTP: the next request waits for the response of the last
	upEOF                 // the client has ended its direction
	upLost                // the client's connection is broken
	upBroken              // the server's is: what was not sent is carry
)

// fate of a session after a leg.
type fate int

const (
	over   fate = iota // it has ended; both connections are closed or being closed
	parked             // it waits for another leg
)

var (
	errTurn   = errors.New("proxy: a transfer was made")
	errClient = errors.New("proxy: the client's connection is broken")
)

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

func (s *session) reset() {
	s.p.count.reset.Add(1)
	s.client.abort()
}

func (s *session) heard() {
	sent := s.sent.Load()
	if s.answered.Swap(sent) < sent {
		s.turns.Add(1)
	}
	s.touch()
}
