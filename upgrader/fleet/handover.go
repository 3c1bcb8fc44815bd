package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/self"
	"github.com/upgrader/upgrader/upgrader/state"
)

// handing is a self-upgrade of all services that run.
type handing struct {
	done    chan struct{} // closed when every service has its answer
	answers map[string]answer
}

// answer is what became of one service.
type answer struct {
	answer control.Answer
	err    error
}

// handed is what a new process is told of the fleet itself.
type handed struct {
	Stopped map[string]stopped `json:"stopped,omitempty"`
}

// stopped is a service that does not run.
type stopped struct {
	Code   int       `json:"code"`
	Reason string    `json:"reason,omitempty"`
	Began  time.Time `json:"began"`
}

// inherited is what this process takes over; nil: nothing.
type inherited struct {
	handed
	*self.Inheritance
	running       []string
	parent        int // pid of the old upgrader
	lock, control *os.File
}

// selfUpgrade replaces this process, for a client who asks one service, and
// gives what became of that one. Who asks while it is under way gets the same.
func (f *Fleet) selfUpgrade(ctx context.Context, service string) (control.Answer, error) {
	if f.config.Self == nil {
		why := f.config.NoSelf
		if why == "" {
			why = self.ErrUnsupported.Error()
		}
		return control.Answer{}, &control.Error{Code: control.CodeUnsupported, Message: why}
	}
	f.mu.Lock()
	h := f.handing
	if h == nil && f.run.Err() == nil {
		h = &handing{done: make(chan struct{}), answers: map[string]answer{}}
		f.handing = h
		go f.handOver(h) // awaitVerdicts joins it
	}
	f.mu.Unlock()
	if h == nil {
		return control.Answer{}, &control.Error{Code: control.CodeStopping, Message: "the upgrader is stopping"}
	}
	select {
	case <-h.done:
	case <-ctx.Done():
		return control.Answer{}, ctx.Err()
	}
	if a, ok := h.answers[service]; ok {
		return a.answer, a.err
	}
	return control.Answer{Verdict: &control.Verdict{Verdict: control.Committed, Reason: "it has stopped, and stays so", Asked: "self-upgrade", Start: time.Now()}}, nil
}

// handOver asks every service that runs, and waits for all of them.
func (f *Fleet) handOver(h *handing) {
	running := map[string]*upgrader.Service{}
	var told handed
	for _, m := range f.members {
		l, s, err := m.current(context.Background())
		switch {
		case err != nil: // never: nothing ends that context
		case s != nil:
			running[m.config.Name] = s
		default:
			ended := m.last()
			one := stopped{Code: ended.Exit.Code, Began: l.began}
			if reason := ended.Reason(); reason != nil {
				one.Reason = reason.Error()
			}
			if told.Stopped == nil {
				told.Stopped = map[string]stopped{}
			}
			told.Stopped[m.config.Name] = one
		}
	}
	c, err := f.own(told)
	defer func() {
		for _, one := range c.Files {
			if one.Name == "lock" || one.Name == "control" {
				_ = one.File.Close() // a duplicate
			}
		}
	}()
	f.group.Begin(c, slices.Collect(maps.Keys(running)))
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, s := range running {
		all.Go(func() {
			if err != nil {
				f.group.Decline(name, err)
			}
			a, failed := s.Handler().Do(context.Background(), control.Request{Do: control.DoSelfUpgrade})
			switch {
			case failed != nil:
				f.group.Decline(name, failed)
			case a.Verdict != nil && a.Verdict.Verdict != control.Committed:
				f.group.Decline(name, errors.New(a.Verdict.Reason))
			}
			mu.Lock()
			defer mu.Unlock()
			h.answers[name] = answer{a, failed}
		})
	}
	all.Wait()
	f.mu.Lock()
	f.handing = nil
	f.mu.Unlock()
	close(h.done)
}

// own is what is handed over of the fleet itself.
func (f *Fleet) own(told handed) (c self.GroupConfig, err error) {
	x := &f.shared
	c.Released = func() {
		x.server.Keep()
		x.server.HangUp() // those that were asked are answered
	}
	if c.State, err = json.Marshal(told); err != nil {
		return c, err
	}
	if f.config.Carry != nil {
		for _, one := range f.config.Carry() {
			if one.File != nil {
				c.Files = append(c.Files, one)
			}
		}
	}
	lock, err := x.lock.File()
	if err != nil {
		return c, err
	}
	c.Files = append(c.Files, self.File{Name: "lock", File: lock})
	socket, err := x.server.File()
	if err != nil {
		return c, err
	}
	c.Files = append(c.Files, self.File{Name: "control", File: socket})
	return c, nil
}

// awaitStay waits until no self-upgrade is under way, and tells whether this
// process still is in charge.
func (f *Fleet) awaitStay(ctx context.Context) error {
	f.mu.Lock()
	h := f.handing
	f.mu.Unlock()
	if h == nil {
		return nil
	}
	select {
	case <-h.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, a := range h.answers {
		if v := a.answer.Verdict; v != nil && v.Verdict == control.Committed {
			return &control.Error{Code: control.CodeStopping, Message: "the upgrader was replaced by a new one: ask that one"}
		}
	}
	return nil
}

// awaitVerdicts waits until a self-upgrade that is under way is answered.
func (f *Fleet) awaitVerdicts() {
	f.mu.Lock()
	h := f.handing
	f.mu.Unlock()
	if h != nil {
		<-h.done
	}
}

// handedOver reports whether another process is in charge.
func (f *Fleet) handedOver() bool {
	for _, m := range f.members {
		if m.life != nil && m.last().Exit.Heir != 0 {
			return true
		}
	}
	return false
}

// inherit is what the process before this one hands over.
func (f *Fleet) inherit() (*inherited, error) {
	var err error
	if f.group, err = self.NewGroup(f.config.Self); err != nil {
		return nil, err
	}
	own, names, in := f.group.Inherited()
	if in == nil {
		return nil, nil
	}
	i := &inherited{Inheritance: in, running: names, parent: os.Getppid(), lock: in.File("lock"), control: in.File("control")}
	if i.lock == nil || i.control == nil {
		return nil, errors.New("fleet: the old upgrader does not hand over its lock and its control socket")
	}
	if err := json.Unmarshal(own, &i.handed); err != nil {
		return nil, fmt.Errorf("fleet: what the old upgrader hands over is not understood: %w", err)
	}
	return i, nil
}

// check refuses a change of which services there are: those that run go on.
func (i *inherited) check(here map[string]bool) error {
	if i == nil {
		return nil
	}
	there := append(slices.Clone(i.running), slices.Collect(maps.Keys(i.Stopped))...)
	slices.Sort(there)
	if now := slices.Sorted(maps.Keys(here)); !slices.Equal(now, there) {
		return fmt.Errorf("%w: the services are %s now, and were %s: a self-upgrade keeps them, stop this upgrader and start it anew", upgrader.ErrUsage, strings.Join(now, ", "), strings.Join(there, ", "))
	}
	return nil
}

// begin begins the lives of all services; of those that were handed over, only
// of those that ran.
func (f *Fleet) begin(i *inherited) {
	var come []*member
	for _, m := range f.members {
		if i != nil {
			if was, ended := i.Stopped[m.config.Name]; ended {
				m.endedElsewhere(was)
				continue
			}
		}
		come = append(come, m)
	}
	f.running, f.coming = len(come), len(come)
	for _, m := range come {
		m.begin(nil, func() bool { return true })
	}
}

// endedElsewhere makes the life of a service one that is over.
func (m *member) endedElsewhere(was stopped) {
	l := &life{began: was.Began, open: make(chan struct{}), up: make(chan struct{}), over: make(chan struct{}), next: make(chan struct{})}
	l.ended = Ended{Service: m.config.Name, Exit: upgrader.Exit{Code: was.Code}}
	if was.Reason != "" {
		l.ended.Exit.Reason = errors.New(was.Reason)
	}
	close(l.open)
	close(l.up)
	close(l.over)
	m.life, m.counted = l, true
}

// takeOver waits until the services are in charge, and takes what they share.
// It reports false when they do not come to be.
func (f *Fleet) takeOver(i *inherited) bool {
	for _, m := range f.members {
		l, s, err := m.current(context.Background())
		if err != nil || s == nil {
			if isClosed(l.over) && slices.Contains(i.running, m.config.Name) {
				return false
			}
			continue
		}
		select {
		case <-s.InCharge():
		case <-l.over:
			return false
		}
	}
	x, err := &f.shared, error(nil)
	if x.lock, err = x.dir.Inherit(i.lock, f.config.Name, f.config.Command); err != nil {
		f.note("the lock could not be inherited", err)
	}
	if f.config.PidFile != "" {
		if x.pid, err = state.WritePidFile(state.PidFileConfig{Path: f.config.PidFile, Predecessor: i.parent}); err != nil {
			f.note("the pid file could not be taken over", err)
		}
	}
	if x.server, err = control.InheritFor(i.control, x.dir.Path(), f.Services); err != nil {
		x.server, err = control.ListenFor(x.dir.Path(), f.Services) // its path was removed
	}
	if err != nil {
		f.note("nobody can ask this upgrader for anything", err)
		return false
	}
	return true
}
