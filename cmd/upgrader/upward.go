package main

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/upgrader/upgrader/upgrader"
)

// upward tells whoever manages us (systemd, a container engine) how the
// services are, by sd_notify(3).
type upward struct {
	socket   string
	watchdog time.Duration // how often it wants to hear of us; 0: never

	mu    sync.Mutex
	all   int // services
	each  map[string]*upwardOf
	ready bool // READY=1 was said
}

// upwardOf is how one service is.
type upwardOf struct{ ready, swapping, stopping, ended bool }

func newUpward(socket string, services int) *upward {
	interval, _ := daemon.SdWatchdogEnabled(false) // what makes no sense is not asked for
	return &upward{socket: socket, watchdog: interval, all: services, each: map[string]*upwardOf{}}
}

// tell passes on what e means to a service manager. service is "" when there
// is only one.
func (u *upward) tell(service string, e upgrader.Event) {
	if u.socket == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.of(service)
	var lines []string
	switch e.What {
	case upgrader.EventSteered:
		s.ready, s.ended, s.stopping = true, false, false
		lines = u.readyLocked()
	case upgrader.EventSwapping:
		s.swapping = true
		if u.ready {
			lines = append(lines, daemon.SdNotifyReloading, monotonic())
		}
	case upgrader.EventCommitted, upgrader.EventRolled, upgrader.EventFailed:
		s.swapping = false
		s.ready = s.ready || e.State == upgrader.Serving // or one that was adopted serves on
		if e.What != upgrader.EventFailed {
			lines = u.readyLocked()
		}
	case upgrader.EventStopping:
		s.stopping = true
		if u.count(func(s *upwardOf) bool { return s.stopping || s.ended }) == u.all {
			lines = append(lines, daemon.SdNotifyStopping)
		}
	}
	name := ""
	if service != "" {
		name = service + ": "
	}
	switch e.What {
	case upgrader.EventStatus:
		lines = append(lines, "STATUS="+name+oneLine(e.Message))
	case upgrader.EventReady, upgrader.EventDied, upgrader.EventRolled, upgrader.EventFailed, upgrader.EventRefusing:
		lines = append(lines, "STATUS="+name+oneLine(e.What+" "+e.Message))
	}
	u.say(lines)
}

// ended is told that a service of a fleet is over.
func (u *upward) ended(service string) {
	if u.socket == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of(service).ended = true
	if !u.ready {
		u.say(u.readyLocked())
	}
}

func (u *upward) of(service string) *upwardOf {
	if u.each[service] == nil {
		u.each[service] = &upwardOf{}
	}
	return u.each[service]
}

func (u *upward) count(is func(*upwardOf) bool) (n int) {
	for _, s := range u.each {
		if is(s) {
			n++
		}
	}
	return n
}

// readyLocked is READY=1 once every service is ready or over, some are ready,
// and none is being swapped.
func (u *upward) readyLocked() []string {
	some := u.count(func(s *upwardOf) bool { return s.ready && !s.ended })
	done := u.count(func(s *upwardOf) bool { return (s.ready || s.ended) && !s.swapping })
	if some == 0 || done < u.all {
		return nil
	}
	u.ready = true
	return []string{daemon.SdNotifyReady}
}

// say sends lines.
func (u *upward) say(lines []string) {
	if len(lines) == 0 {
		return
	}
	// The variable is read at each call; the server's environment is cleared of it elsewhere.
	_ = os.Setenv("NOTIFY_SOCKET", u.socket)
	_, _ = daemon.SdNotify(false, strings.Join(lines, "\n")) // nobody may listen there any more
}

// beat says WATCHDOG=1 twice as often as it has to come, as long as t answers,
// until done.
func (u *upward) beat(t target, done <-chan struct{}) {
	if u.socket == "" || u.watchdog <= 0 {
		return
	}
	tick := time.NewTicker(u.watchdog / 2)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), u.watchdog)
		err := t.Alive(ctx)
		cancel()
		if err == nil {
			u.mu.Lock()
			u.say([]string{daemon.SdNotifyWatchdog})
			u.mu.Unlock()
		}
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}
