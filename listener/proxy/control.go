package proxy

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Settle says when a server counts as quiet.
type Settle struct {
	Quiet time.Duration // nothing moved on the leg for so long, and the server's word was the last. 0: 100 ms
	Max   time.Duration // after so long, sessions that are not quiet stay as they are. 0: 1 s
}

func (s Settle) normal() Settle {
	if s.Quiet <= 0 {
		s.Quiet = 100 * time.Millisecond
	}
	if s.Max <= 0 {
		s.Max = time.Second
	}
	return s
}

// Outcome of Drain and Move, in sessions.
type Outcome struct {
	Done   int // quiet (Drain), at the successor or ended (Move)
	Stayed int // not in time, or not to be moved at all
}

// operation is one Drain or Move; every session that it waits for answers once.
type operation struct {
	to     *target // nil: Drain
	settle Settle

	mu      sync.Mutex
	pending int
	outcome Outcome
	all     chan struct{}
}

func (o *operation) expect() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending++
}

func (o *operation) answer(done bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if done {
		o.outcome.Done++
	} else {
		o.outcome.Stayed++
	}
	if o.pending--; o.pending == 0 {
		close(o.all)
	}
}

// Serve sends new sessions, and those without a leg, to b. Others stay where they are until their
// server ends their leg. Clients are taken again after Refuse. A Hold stays.
func (p *Proxy) Serve(b Backend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = false
	p.target.Store(&target{Backend: b})
	for _, s := range p.sessions {
		s.interrupt()
	}
}

// Hold stops reading from clients (HTTP: at the next boundary) and connecting. From now to Resume or
// Move, a server that ends its leg does not end the session.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
	for _, s := range p.sessions {
		s.mu.Lock()
		s.held = true
		s.pauseLocked()
		s.mu.Unlock()
	}
}

// Resume ends a Hold: every session goes on where it is, or connects anew.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseLocked()
}

func (p *Proxy) releaseLocked() {
	p.held = false
	for _, s := range p.sessions {
		s.mu.Lock()
		if s.held || s.op == nil { // else ask told it, and again would end a dial that it made of that
			s.held = false
			s.startUpLocked()
			s.interruptLocked()
		}
		s.mu.Unlock()
	}
}

// Drain holds and waits until the server is quiet on every leg, settle.Max at most. It changes nothing
// else: the hold stays. The error is the context's.
func (p *Proxy) Drain(ctx context.Context, settle Settle) (Outcome, error) {
	p.Hold()
	op := &operation{settle: settle.normal(), all: make(chan struct{}), pending: 1}
	p.mu.Lock()
	p.ask(op, func(s *session) bool { return s.leg != nil })
	p.mu.Unlock()
	return p.await(ctx, op)
}

// Move ends a Hold and takes every session to b. With PolicyDrain and PolicyHTTP1 a session whose server
// still runs is held until that is quiet, for settle.Max at most; what is not quiet then flows on where
// it is, and moves by itself when it is quiet later. With PolicyResume it moves when its server ends the
// leg. Sessions without a leg connect at once. New sessions go to b from now. A Move that another
// overtakes counts what is left as stayed. The error is the context's; b stays the target.
func (p *Proxy) Move(ctx context.Context, b Backend, settle Settle) (Outcome, error) {
	settle = settle.normal()
	to := &target{Backend: b, move: true, settle: settle}
	op := &operation{to: to, settle: settle, all: make(chan struct{}), pending: 1}
	p.mu.Lock()
	p.refusing = false
	p.target.Store(to)
	p.ask(op, func(s *session) bool { return s.leg == nil || s.leg.generation != b.Generation })
	p.releaseLocked()
	p.mu.Unlock()
	return p.await(ctx, op)
}

// ask gives op to the sessions that it concerns, and one that takes them somewhere ends their hold.
// Preconditions: p.mu is held; op has one answer pending.
func (p *Proxy) ask(op *operation, concerns func(*session) bool) {
	for _, s := range p.sessions {
		s.mu.Lock()
		s.answerLocked(false) // overtaken
		if !s.ended && s.ready && concerns(s) {
			op.expect()
			s.op = op
			s.held = s.held && op.to == nil
			s.pauseLocked()
		}
		s.mu.Unlock()
	}
}

func (p *Proxy) await(ctx context.Context, op *operation) (Outcome, error) {
	op.mu.Lock() // the one that was pending from the start
	if op.pending--; op.pending == 0 {
		close(op.all)
	}
	op.mu.Unlock()
	timer := time.NewTimer(op.settle.Max)
	defer timer.Stop()
	var err error
	select {
	case <-op.all:
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.ctx.Done():
		err = errors.New("proxy: it has stopped")
	}
	p.mu.Lock()
	for _, s := range p.sessions {
		s.mu.Lock()
		if s.op == op {
			s.stayLocked(nil)
			s.startUpLocked()
			s.interruptLocked()
		}
		s.mu.Unlock()
	}
	p.mu.Unlock()
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.outcome, err
}

// Refuse resets clients that have no server, and those that come, until Serve or Move.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = true
	for _, s := range p.sessions {
		s.interrupt()
	}
}

// refuses clients that have no server.
func (p *Proxy) refuses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refusing || p.finishing
}

// Finish takes no more clients; from now the end of a leg is the end of its session. It waits until none
// is left; the error is the context's. Run returns then.
func (p *Proxy) Finish(ctx context.Context) error {
	p.mu.Lock()
	p.finishing = true
	p.emptiedLocked()
	p.releaseLocked()
	for _, s := range p.sessions {
		s.interrupt()
	}
	p.mu.Unlock()
	p.closePublic()
	select {
	case <-p.emptied:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
