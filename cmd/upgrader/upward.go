package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/upgrader/upgrader/upgrader"
)

// upward tells whoever manages us (systemd, a container engine) how the
// service is, by sd_notify(3).
type upward struct {
	socket string
	ready  bool
}

func newUpward(socket string) *upward { return &upward{socket: socket} }

// tell passes on what e means to a service manager.
func (u *upward) tell(e upgrader.Event) {
	if u.socket == "" {
		return
	}
	var lines []string
	switch e.What {
	case upgrader.EventSteered:
		lines = append(lines, daemon.SdNotifyReady)
		u.ready = true
	case upgrader.EventSwapping:
		if u.ready {
			lines = append(lines, daemon.SdNotifyReloading, monotonic())
		}
	case upgrader.EventCommitted, upgrader.EventRolled:
		if u.ready || e.State == upgrader.Serving { // or one that was adopted serves on
			lines = append(lines, daemon.SdNotifyReady)
			u.ready = true
		}
	case upgrader.EventStopping:
		lines = append(lines, daemon.SdNotifyStopping)
	}
	switch e.What {
	case upgrader.EventStatus:
		lines = append(lines, "STATUS="+oneLine(e.Message))
	case upgrader.EventReady, upgrader.EventDied, upgrader.EventRolled, upgrader.EventFailed, upgrader.EventRefusing:
		lines = append(lines, "STATUS="+oneLine(e.What+" "+e.Message))
	}
	u.say(lines)
}

// succeeded tells that another process is the one to watch, while this one,
// which may say so, still runs.
func (u *upward) succeeded(pid int) {
	u.say([]string{fmt.Sprintf("MAINPID=%d", pid), daemon.SdNotifyReady})
}

func (u *upward) say(lines []string) {
	if u.socket == "" || len(lines) == 0 {
		return
	}
	// The variable is read at each call; the server's environment is cleared of it elsewhere.
	_ = os.Setenv("NOTIFY_SOCKET", u.socket)
	_, _ = daemon.SdNotify(false, strings.Join(lines, "\n")) // nobody may listen there any more
}
