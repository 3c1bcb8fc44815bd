package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/upgrader/upgrader/upgrader/self"
)

// upgradeSlack is how much longer a new upgrader may take than its generation.
const upgradeSlack = 10 * time.Second

// noSelfInTerminal is why there is no self-upgrade.
const noSelfInTerminal = "this upgrader is the foreground job of a terminal, whose shell would take the end of its process for the end of the service: start it with --init"

// stayBehind makes this process the small init above an upgrader, which says in
// our place that it has come up.
func stayBehind(d *background) error {
	code, err := self.Init(d.handOn()...)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return &exit{exitUsage, fmt.Errorf("--init: %w", err)}
	case err != nil:
		return &exit{exitSystem, err}
	case code != 0:
		return &exit{code, nil}
	}
	return nil
}

// succeed finds out whether this process takes over from an upgrader, and
// whether another one can take over from it.
func (h *host) succeed() (err error) {
	late := time.Duration(0)
	for _, c := range h.plan.services {
		late = max(late, c.ReadyTimeout)
	}
	if h.self, err = self.New(late + upgradeSlack); err != nil && !errors.Is(err, self.ErrUnsupported) {
		return &exit{exitSystem, err}
	}
	if inherited := h.self.Inherited(); inherited != nil {
		h.above = self.InheritInit(inherited.File("init"))
	}
	if h.terminal && h.above == nil && h.self != nil {
		h.self, h.noSelf = nil, noSelfInTerminal
	}
	return nil
}

// carry is what a successor of this process is handed beside the service.
func (h *host) carry() []self.File {
	return append(h.api.carry(), self.File{Name: "init", File: h.above.File()})
}

// succeeded is told that another process is in charge.
func (h *host) succeeded(pid int) {
	h.up.succeeded(pid)
	if err := h.above.Succeeded(pid); err != nil {
		h.log.Warn("init", zap.Error(err))
	}
	h.api.hangUp()
}

// inheritWatchdog takes the service manager's watchdog over from the process
// above, which it was meant for: that is the init, or the upgrader before us.
func inheritWatchdog() {
	if os.Getenv("WATCHDOG_PID") == strconv.Itoa(os.Getppid()) {
		_ = os.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid())) // fails for no name that is one
	}
}
