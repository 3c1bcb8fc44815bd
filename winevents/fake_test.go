package winevents

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// machine is a fake of the kernel's object manager for simulated processes. An
// object lives as long as somebody holds a handle, auto-reset events wake one
// waiter, and a process's death closes its handles and frees its mutexes.
type machine struct {
	t     *testing.T
	mu    sync.Mutex
	named map[string]*thing
	procs map[int]*proc
	wakes map[chan struct{}]bool
}

type kind int

const (
	anEvent kind = iota
	aMutex
	aProcess
)

type thing struct {
	kind      kind
	key       string
	signalled bool
	manual    bool
	handles   int
	users     []string // who may open it
	owner     *proc    // of a mutex
	proc      *proc    // of a process
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, named: map[string]*thing{}, procs: map[int]*proc{}, wakes: map[chan struct{}]bool{}}
}

// proc is a simulated process; it is the kernel that this process sees.
type proc struct {
	*machine
	id      Identity
	user    string
	session int
	process *thing
	dead    bool
	handles map[*held]bool
}

// held is a handle of a process.
type held struct {
	p *proc
	*thing
}

var errDead = errors.New("fake: the calling process is dead")

// spawn starts a process in session 1. Its id must be free.
func (m *machine) spawn(pid int, executable string) *proc {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.procs[pid]; old != nil && (!old.dead || old.process.handles > 0) {
		m.t.Fatalf("fake: process id %d is in use", pid)
	}
	p := &proc{machine: m, user: "S-1-5-21-1", session: 1, handles: map[*held]bool{},
		id: Identity{Pid: pid, Created: time.Now(), Executable: executable}}
	p.process = &thing{kind: aProcess, proc: p}
	m.procs[pid] = p
	return p
}

// exit ends the process, however it comes to that.
func (p *proc) exit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return
	}
	p.dead = true
	for h := range p.handles {
		p.closeLocked(h)
	}
	for _, t := range p.named {
		if t.owner == p {
			t.owner = nil
		}
	}
	p.process.signalled = true
	p.wakeLocked()
}

func (p *proc) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// open says how many handles the process holds.
func (p *proc) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.handles)
}

// exists says whether anybody holds an object of that name, as p sees it.
func (p *proc) exists(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.named[p.key(name)] != nil
}

func (m *machine) wakeLocked() {
	for c := range m.wakes {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (p *proc) key(name string) string {
	if bare, ok := strings.CutPrefix(name, string(Global)); ok {
		return "0/" + bare
	}
	return strconv.Itoa(p.session) + "/" + name
}

func (p *proc) holdLocked(t *thing) *held {
	h := &held{p: p, thing: t}
	t.handles++
	p.handles[h] = true
	return h
}

func (m *machine) closeLocked(h *held) {
	delete(h.p.handles, h)
	if h.handles--; h.handles == 0 && h.key != "" {
		delete(m.named, h.key)
	}
}

// createLocked opens or creates a named object.
func (p *proc) createLocked(name string, k kind, users []string) (h *held, existed bool, err error) {
	if p.dead {
		return nil, false, errDead
	}
	t := p.named[p.key(name)]
	if name == "" {
		t = nil
	}
	switch {
	case t == nil:
		t = &thing{kind: k, users: users}
		if name != "" {
			t.key = p.key(name)
			p.named[t.key] = t
		}
	case t.kind != k:
		return nil, false, ErrOtherKind
	case !mayOpen(t, p.user):
		return nil, false, fs.ErrPermission
	default:
		existed = true
	}
	return p.holdLocked(t), existed, nil
}

func mayOpen(t *thing, user string) bool {
	for _, u := range t.users {
		if u == user {
			return true
		}
	}
	return false
}

func (p *proc) createEvent(name string, grant []string) (event, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, existed, err := p.createLocked(name, anEvent, append([]string{p.user}, grant...))
	if err != nil {
		return nil, false, err
	}
	return h, existed, nil
}

// createManual makes a manual-reset event, as a stranger might.
func (p *proc) createManual(name string) event {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, _, err := p.createLocked(name, anEvent, []string{p.user})
	if err != nil {
		p.t.Error(err)
		return nil
	}
	h.manual = true
	return h
}

// openEvent is nil if there is none or none for us.
func (p *proc) openEvent(name string) event {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.named[p.key(name)]
	if p.dead || t == nil || t.kind != anEvent || !mayOpen(t, p.user) {
		return nil
	}
	return p.holdLocked(t)
}

func (p *proc) openProcess(pid int, _ access) (process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return nil, errDead
	}
	other := p.procs[pid]
	if other == nil || other.dead && other.process.handles == 0 {
		return nil, ErrNoProcess
	}
	return p.holdLocked(other.process), nil
}

func (p *proc) self() (Identity, error) { return p.id, nil }

func (p *proc) acquire(name string, grant []string, timeout time.Duration, stop event) (func() error, error) {
	p.mu.Lock()
	h, _, err := p.createLocked(name, aMutex, append([]string{p.user}, grant...))
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	got, err := p.waitFor(timeout, []*held{stop.(*held), h})
	if err != nil || got != 1 {
		_ = h.Close()
		return nil, errors.Join(err, ErrBusy)
	}
	return func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.dead {
			return nil
		}
		h.owner = nil
		p.closeLocked(h)
		p.wakeLocked()
		return nil
	}, nil
}

func (p *proc) wait(timeout time.Duration, objects ...handle) (int, error) {
	list := make([]*held, len(objects))
	for i, o := range objects {
		list[i] = o.(*held)
	}
	return p.waitFor(timeout, list)
}

func (p *proc) waitFor(timeout time.Duration, objects []*held) (int, error) {
	var expired <-chan time.Time
	if timeout > 0 && timeout != forever {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	wake := make(chan struct{}, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakes[wake] = true
	defer delete(p.wakes, wake)
	for last := timeout <= 0; ; {
		for i, h := range objects {
			if p.dead {
				return timedOut, errDead
			}
			if !p.handles[h] {
				p.t.Error("fake: wait for a closed handle")
				return timedOut, errors.New("fake: invalid handle")
			}
			if h.takeLocked() {
				return i, nil
			}
		}
		if last {
			return timedOut, nil
		}
		p.mu.Unlock()
		select {
		case <-wake:
		case <-expired:
			last = true
		}
		p.mu.Lock()
	}
}

// takeLocked says whether a wait for it ends, and does what that does to it.
func (h *held) takeLocked() bool {
	switch h.kind {
	case aMutex:
		if h.owner != nil { // also if it is p: every acquisition has its own thread
			return false
		}
		h.owner = h.p
		return true
	case anEvent:
		was := h.signalled
		h.signalled = was && h.manual
		return was
	}
	return h.signalled
}

func (h *held) with(do func()) error {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	if h.p.dead {
		return errDead
	}
	if !h.p.handles[h] {
		h.p.t.Errorf("fake: use of a closed handle of %s", h.key)
		return errors.New("fake: invalid handle")
	}
	do()
	h.p.wakeLocked()
	return nil
}

func (h *held) Set() error   { return h.with(func() { h.signalled = true }) }
func (h *held) Reset() error { return h.with(func() { h.signalled = false }) }
func (h *held) Close() error { return h.with(func() { h.p.closeLocked(h) }) }

func (h *held) Identity() (Identity, error) { return h.proc.id, nil }
func (h *held) User() (string, error)       { return h.proc.user, nil }
func (h *held) Terminate() error {
	h.proc.exit()
	return nil
}
