package upgrader

import (
	"context"
	"strconv"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/listener/notify"
)

// watchdog ends a server that no longer says that it lives. It is on from the
// moment that the server is ready until it is asked to quit, as systemd has it.
type watchdog struct {
	every time.Duration // how often WATCHDOG=1 has to come; 0: never
	timer *time.Timer   // nil: off
}

// abortTime is what a server that missed its watchdog has for its core dump
// before KILL.
const abortTime = 5 * time.Second

// watchdogEnviron tells a server that it is watched: the variables, and those
// whose value is its pid.
func (c *Config) watchdogEnviron() (set, pids []string) {
	if c.Watchdog == 0 {
		return nil, nil
	}
	return []string{"WATCHDOG_USEC=" + strconv.FormatInt(c.Watchdog.Microseconds(), 10)}, []string{"WATCHDOG_PID"}
}

// watchIt begins to wait for the next WATCHDOG=1 of g, which is ready.
func (s *Service) watchIt(g *generation) {
	w := &g.watchdog
	if w.every == 0 {
		w.every = s.config.Watchdog
	}
	if w.every == 0 {
		return
	}
	if w.timer != nil {
		w.timer.Reset(w.every)
		return
	}
	w.timer = time.AfterFunc(w.every, func() { s.tell(func() { s.missed(g, "no WATCHDOG=1 came within "+w.every.String()) }) })
	context.AfterFunc(g.run, func() { w.timer.Stop() })
}

// alive is told of a message of g that has to do with the watchdog.
func (s *Service) alive(g *generation, m notify.Message) {
	if m.WatchdogTime != 0 {
		g.watchdog.every = m.WatchdogTime
	}
	switch watched := !g.ready.IsZero() && !g.asked; {
	case m.WatchdogTrigger && watched:
		s.missed(g, "it said WATCHDOG=trigger")
	case (m.Watchdog || m.WatchdogTime != 0) && watched:
		s.watchIt(g)
	}
}

// missed has g end: its death is dealt with as any other.
func (s *Service) missed(g *generation, why string) {
	if g.asked || g.ended || g.phase != phaseServing || s.state.ending() {
		return
	}
	s.observe(Event{What: EventWatchdog, Generation: g.number, Pid: g.pid(), Message: why, Warning: true})
	_ = g.signal(syscall.SIGABRT) // it may be gone
	late := time.AfterFunc(abortTime, func() {
		s.tell(func() {
			if !g.ended && g.phase == phaseServing {
				_ = g.signal(syscall.SIGKILL) // it may be gone
			}
		})
	})
	context.AfterFunc(g.run, func() { late.Stop() })
}
