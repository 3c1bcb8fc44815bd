package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/launch"
)

// wrap runs the service until it has stopped. The exit status is the server's
// own, or says what was wrong with us.
func wrap(f *flags, set *pflag.FlagSet, command []string) error {
	if err := fromEnvironment(set, os.LookupEnv); err != nil {
		return &exit{exitUsage, err}
	}
	f.given = set.Changed
	c, err := f.parse(command)
	if err != nil {
		return &exit{exitUsage, err}
	}
	log, err := newLog(f.logFormat, f.logLevel)
	if err != nil {
		return &exit{exitUsage, err}
	}
	defer func() { _ = log.Sync() }() // stderr cannot be synced everywhere
	up := newUpward(os.Getenv("NOTIFY_SOCKET"))
	memory := newTidier()
	c.Terminal = inForeground()
	c.Observe = func(e upgrader.Event) {
		report(log, e)
		up.tell(e)
		memory.saw(e)
	}
	signals := make(chan os.Signal, 64)
	c.Ignored = launch.Ignored()
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads must not end us
	signal.Notify(signals, slices.DeleteFunc(ours(), func(sig os.Signal) bool {
		return slices.Contains(c.Ignored, sig.(syscall.Signal)) // as nohup wants it
	})...)
	defer signal.Stop(signals)
	if f.profile == profileNFShm { // which signals its whole process group when it finds an empty pid file
		signal.Notify(make(chan os.Signal, 1), nfQuit) // nobody listens: it must not end us
	}
	done := make(chan struct{})
	defer close(done)
	api, err := f.openHTTP(cmp.Or(f.server, c.Name), log)
	if err != nil {
		return err
	}
	exited, err := upgrader.Run(context.Background(), c, func(s *upgrader.Service) {
		go obey(s, signals, done, c.Terminal)
		api.serve(s)
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
