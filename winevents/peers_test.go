package winevents

import (
	"errors"
	"sync/atomic"
	"time"
)

// The two sides as the documents have them, for a simulated process.

// memory is the shared memory: who writes in it, and whose saved marker it has.
type memory struct {
	writers atomic.Int32
	savedBy atomic.Int64
}

var errUnsaved = errors.New("nobody has saved")

// saved reads the marker, as AskConfig.Saved.
func (m *memory) saved(id Identity) error {
	if m.savedBy.Load() != int64(id.Pid) {
		return errUnsaved
	}
	return nil
}

// docServer is an unmodified program B.
type docServer struct {
	poll     time.Duration // how often it looks (10 ms)
	first    time.Duration // when it looks for the first time
	stop     time.Duration // how long its services take to stop
	confirm  time.Duration // how long after that it confirms
	linger   time.Duration // 0: the documents' 10 s
	mode     string        // good, deaf, silent (dies), mute (exits unconfirmed), crash (after confirming), wrong (pid)
	unmarked bool          // no saved marker
	late     bool          // the marker comes after the confirmation
}

// run serves until the process has ended.
func (s docServer) run(p *proc, m *memory) {
	defer p.exit()
	m.writers.Add(1)
	poll := s.poll
	if poll == 0 {
		poll = DefaultPoll
	}
	time.Sleep(s.first)
	for killed := false; !killed; {
		if p.gone() {
			m.writers.Add(-1)
			return
		}
		for _, signal := range []Signal{Reload, Stop, Quit, Kill} {
			if s.mode != "deaf" && check(p, signal.Name(p.id.Pid)) {
				killed = signal != Reload
			}
		}
		if !killed {
			time.Sleep(poll)
		}
	}
	if s.mode == "silent" {
		m.writers.Add(-1)
		return
	}
	time.Sleep(min(s.stop, DefaultServices))
	m.writers.Add(-1)
	if !s.unmarked && !s.late {
		m.savedBy.Store(int64(p.id.Pid))
	}
	time.Sleep(s.confirm)
	s.sendKillSuccess(p, m)
}

func (s docServer) sendKillSuccess(p *proc, m *memory) {
	pid := p.id.Pid
	switch s.mode {
	case "mute":
		return
	case "wrong":
		pid += 4
	}
	e, _, err := p.createEvent(KillSuccess.Name(pid), nil)
	if err != nil {
		return
	}
	_ = e.Set()
	if s.mode == "crash" {
		return
	}
	time.Sleep(DefaultHold)
	_ = e.Close()
	if s.late {
		m.savedBy.Store(int64(p.id.Pid))
	}
	time.Sleep(orDefault(s.linger, DefaultLinger))
}

// check is CheckEvent.
func check(p *proc, name string) bool {
	e := p.openEvent(name)
	if e == nil {
		return false
	}
	defer e.Close()
	i, err := p.wait(0, e)
	if err != nil || i == timedOut {
		return false
	}
	_ = e.Reset()
	return true
}

// docAsk is KillPreApp after the pid file was read: 0, or -1 at the deadline.
// between is how long it takes from one event to the next beyond its own 50 ms.
func docAsk(p *proc, pid int, between time.Duration) int {
	o, err := p.openProcess(pid, toWatch)
	if err != nil {
		return 0
	}
	_ = o.Close()
	kill, _, err := p.createEvent(Kill.Name(pid), nil)
	if err != nil {
		return 0
	}
	_ = kill.Set()
	time.Sleep(DefaultHold)
	_ = kill.Close()
	time.Sleep(between)
	confirm, _, err := p.createEvent(KillSuccess.Name(pid), nil)
	if err != nil {
		return 0
	}
	defer confirm.Close()
	if i, err := p.wait(DefaultConfirm, confirm); err != nil || i == timedOut {
		return -1
	}
	return 0
}
