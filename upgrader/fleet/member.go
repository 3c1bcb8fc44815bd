package fleet

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/control"
)

// A member is one service of a fleet: it runs, or it has ended.
type member struct {
	fleet  *Fleet
	config upgrader.Config

	mu      sync.Mutex
	life    *life // the one under way, or the last one
	counted bool  // the fleet knows that it was ready, or ended
}

// A life is one run of a service.
type life struct {
	began   time.Time
	service *upgrader.Service // nil until requests are answered
	open    chan struct{}     // closed then, or at the end
	up      chan struct{}     // closed when it was ready, or at the end
	ready   int               // generation that was ready first; 0: none
	over    chan struct{}     // closed at the end
	ended   Ended
	next    chan struct{} // closed when another life begins
}

func newMember(f *Fleet, c upgrader.Config) *member { return &member{fleet: f, config: c} }

// begin begins a life after the one that is over; nil before the first. It
// gives the life under way if somebody else was quicker. ok: the fleet has
// counted it, or counts it.
func (m *member) begin(after *life, count func() bool) (l *life, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != after {
		return m.life, true
	}
	if !count() {
		return nil, false
	}
	l = &life{began: time.Now(), open: make(chan struct{}), up: make(chan struct{}), over: make(chan struct{}), next: make(chan struct{})}
	m.life = l
	if after != nil {
		close(after.next)
	}
	m.live(l)
	return l, true
}

// live runs the service, in a goroutine.
func (m *member) live(l *life) {
	c := m.config
	c.Observe = func(e upgrader.Event) {
		m.fleet.observe(c.Name, e)
		inherited := e.What == upgrader.EventAdopted && c.Self.Inherited() != nil
		if inherited || e.What == upgrader.EventReady || e.What == upgrader.EventRolled && e.State == upgrader.Serving {
			m.ready(l, e.Generation, nil)
		}
	}
	go func() {
		exit, err := upgrader.Run(m.fleet.run, c, func(s *upgrader.Service) {
			m.mu.Lock()
			l.service = s
			m.mu.Unlock()
			close(l.open)
		})
		ended := Ended{Service: c.Name, Exit: exit, Err: err}
		m.mu.Lock()
		if l.service == nil {
			close(l.open)
		}
		l.service, l.ended = nil, ended
		m.mu.Unlock()
		m.ready(l, 0, &ended)
		close(l.over)
		m.fleet.ended(ended)
	}()
}

// ready is told that a generation of l is ready, or that l has ended.
func (m *member) ready(l *life, generation int, ended *Ended) {
	m.mu.Lock()
	first := !isClosed(l.up)
	if first {
		l.ready = generation
		close(l.up)
	}
	count := first && !m.counted
	m.counted = m.counted || first
	m.mu.Unlock()
	if count {
		m.fleet.cameUp(ended)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// running gives the service while it runs.
func (m *member) running() *upgrader.Service {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life.service
}

// current gives the life under way, or the last one, once requests are answered.
func (m *member) current(ctx context.Context) (*life, *upgrader.Service, error) {
	m.mu.Lock()
	l := m.life
	m.mu.Unlock()
	select {
	case <-l.open:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return l, l.service, nil
}

// last is how it ended last; zero while it never has.
func (m *member) last() Ended {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life.ended
}

// Status tells how it is.
func (m *member) Status(ctx context.Context) (control.Status, error) {
	l, s, err := m.current(ctx)
	if err != nil {
		return control.Status{}, err
	}
	if s != nil {
		if st, err := s.Status(ctx); err == nil || ctx.Err() != nil {
			return st, err
		}
		select { // it is ending
		case <-l.over:
		case <-ctx.Done():
			return control.Status{}, ctx.Err()
		}
	}
	c := m.config
	st := control.Status{
		Name: c.Name, ID: c.ID, Zone: c.Zone, Type: c.Type, Command: c.Command, Pid: os.Getpid(),
		State: string(upgrader.Stopped), Since: time.Now(), Started: l.began, Strategy: string(c.Strategy),
	}
	ended := m.last()
	if reason := ended.Reason(); reason != nil {
		st.Message = fmt.Sprintf("%v (exit status %d)", reason, ended.Exit.Code)
	}
	return st, nil
}

// Do does what was asked.
func (m *member) Do(ctx context.Context, r control.Request) (control.Answer, error) {
	if r.Do == control.DoSelfUpgrade {
		return m.fleet.selfUpgrade(ctx, m.config.Name)
	}
	if r.Do == control.DoStop || r.Do == control.DoRestart { // a service neither ends nor begins while all are handed over
		if err := m.fleet.awaitStay(ctx); err != nil {
			return control.Answer{}, err
		}
	}
	l, s, err := m.current(ctx)
	switch {
	case err != nil:
		return control.Answer{}, err
	case s != nil:
		return s.Handler().Do(ctx, r)
	case r.Do == control.DoStop:
		return control.Answer{Message: "stopped"}, nil
	case r.Do == control.DoRestart:
		select {
		case <-l.over: // it gives its state dir back
		case <-ctx.Done():
			return control.Answer{}, ctx.Err()
		}
		return m.restart(ctx, l, r)
	}
	return control.Answer{}, &control.Error{Code: control.CodeFailed, Message: m.config.Name + " has stopped: a restart starts it"}
}

// restart begins a new life and waits until it serves. There is nothing to
// roll back to: it is committed, or it failed.
func (m *member) restart(ctx context.Context, after *life, r control.Request) (control.Answer, error) {
	l, ok := m.begin(after, m.fleet.again)
	if !ok {
		return control.Answer{}, &control.Error{Code: control.CodeStopping, Message: "the upgrader is stopping"}
	}
	if r.Args.NoWait {
		return control.Answer{Message: "begun"}, nil
	}
	select {
	case <-l.up:
	case <-ctx.Done():
		return control.Answer{}, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := control.Verdict{Verdict: control.Committed, Asked: r.Asked, To: l.ready, Start: l.began, Took: time.Since(l.began)}
	if l.ready == 0 {
		v.Verdict, v.Reason = control.Failed, "it has stopped"
		if reason := l.ended.Reason(); reason != nil {
			v.Reason = reason.Error()
		}
		v.Exit = &control.ExitStatus{Code: l.ended.Exit.Code}
	}
	return control.Answer{Verdict: &v}, nil
}

// Events calls emit for what happens from now on, whatever lives come and go.
func (m *member) Events(ctx context.Context, emit func(control.Event) error) error {
	for {
		l, s, err := m.current(ctx)
		if err != nil {
			return nil // that is how it ends
		}
		if s != nil {
			if err := s.Handler().Events(ctx, emit); err != nil || ctx.Err() != nil {
				return err
			}
		}
		select {
		case <-l.next:
		case <-ctx.Done():
			return nil
		}
	}
}
