package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/self"
)

// upgradeSlack is how much longer a new upgrader may take than its generation.
const upgradeSlack = 10 * time.Second

// noSelfInTerminal is why there is no self-upgrade.
const noSelfInTerminal = "this upgrader is the foreground job of a terminal, whose shell would take the end of its process for the end of the service: start it with --init"

// stayBehind makes this process the small init above an upgrader.
func stayBehind() error {
	code, err := self.Init()
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

// wrap runs the service until it has stopped. The exit status is the server's
// own, or says what was wrong with us.
func wrap(f *flags, set *pflag.FlagSet, command []string) error {
	if err := fromEnvironment(set, os.LookupEnv); err != nil {
		return &exit{exitUsage, err}
	}
	c, err := f.parse(command)
	if err != nil {
		return &exit{exitUsage, err}
	}
	log, err := newLog(f.logFormat, f.logLevel)
	if err != nil {
		return &exit{exitUsage, err}
	}
	defer func() { _ = log.Sync() }() // stderr cannot be synced everywhere
	above := self.UnderInit()
	if above == nil && !self.Succeeds() && (f.init || os.Getpid() == 1) {
		return stayBehind()
	}
	if c.Self, err = self.New(c.ReadyTimeout + upgradeSlack); err != nil && !errors.Is(err, self.ErrUnsupported) {
		return &exit{exitSystem, err}
	}
	if inherited := c.Self.Inherited(); inherited != nil {
		above = self.InheritInit(inherited.File("init"))
	}
	up := newUpward(os.Getenv("NOTIFY_SOCKET"))
	memory := newTidier()
	c.Terminal = inForeground()
	if c.Terminal && above == nil && c.Self != nil {
		c.Self, c.NoSelf = nil, noSelfInTerminal
	}
	var api *httpAPI
	c.Carry = func() []self.File { return append(api.carry(), self.File{Name: "init", File: above.File()}) }
	c.Observe = func(e upgrader.Event) {
		report(log, e)
		up.tell(e)
		memory.saw(e)
		if e.What == upgrader.EventHandedOver {
			up.succeeded(e.Pid)
			if err := above.Succeeded(e.Pid); err != nil {
				log.Warn("init", zap.Error(err))
			}
			api.hangUp()
		}
	}
	signals := make(chan os.Signal, 64)
	c.Ignored = launch.Ignored()
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads must not end us
	signal.Notify(signals, slices.DeleteFunc(ours(), func(sig os.Signal) bool {
		return slices.Contains(c.Ignored, sig.(syscall.Signal)) // as nohup wants it
	})...)
	defer signal.Stop(signals)
	done := make(chan struct{})
	defer close(done)
	if api, err = f.openHTTP(c.Name, log, c.Self.Inherited()); err != nil {
		return err
	}
	exited, err := upgrader.Run(context.Background(), c, func(s *upgrader.Service) {
		go obey(s, signals, done, c.Terminal)
		go func() {
			select {
			case <-s.InCharge():
				api.serve(s)
			case <-done:
			}
		}()
	})
	api.close()
	switch {
	case errors.Is(err, upgrader.ErrUsage):
		return &exit{exitUsage, err}
	case err != nil:
		return &exit{exited.Code, err}
	case exited.Reason != nil:
		return &exit{exited.Code, exited.Reason}
	case exited.Code != 0:
		return &exit{exited.Code, nil}
	}
	return nil
}

// obey turns signals into wishes.
func obey(s *upgrader.Service, signals <-chan os.Signal, done <-chan struct{}, terminal bool) {
	var stops atomic.Int32
	for {
		select {
		case <-done:
			return
		case sig := <-signals:
			switch sig {
			case swapSignal:
				s.Swap("signal USR2")
			case syscall.SIGHUP:
				if terminal && hungUp() {
					s.Stop()
					continue
				}
				s.Swap("signal HUP")
			case syscall.SIGTERM, syscall.SIGINT:
				if stops.Add(1) > 1 {
					s.Kill()
				} else {
					s.Stop()
				}
			case syscall.SIGQUIT:
				s.Kill()
			default:
				if !terminal || sig != resizeSignal { // in a terminal the kernel tells the whole group
					s.Signal(sig.(syscall.Signal))
				}
			}
		}
	}
}
