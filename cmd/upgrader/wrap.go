package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/launch"
)

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
	up := newUpward(os.Getenv("NOTIFY_SOCKET"))
	c.Terminal = inForeground()
	c.Observe = func(e upgrader.Event) {
		report(log, e)
		up.tell(e)
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
	api, err := f.openHTTP(c.Name, log)
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

// ours are the signals that mean something to us, or to the server through us.
func ours() []os.Signal {
	all := []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGIO, syscall.SIGPWR,
	}
	for n := syscall.Signal(35); n <= 64; n++ { // 32 to 34 belong to the C library and the runtime
		all = append(all, n)
	}
	return all
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
			case syscall.SIGHUP:
				if terminal && hungUp() {
					s.Stop()
					continue
				}
				s.Swap("signal HUP")
			case syscall.SIGUSR2:
				s.Swap("signal USR2")
			case syscall.SIGTERM, syscall.SIGINT:
				if stops.Add(1) > 1 {
					s.Kill()
				} else {
					s.Stop()
				}
			case syscall.SIGQUIT:
				s.Kill()
			case syscall.SIGWINCH:
				if !terminal { // there, the kernel tells the whole group
					s.Signal(syscall.SIGWINCH)
				}
			default:
				s.Signal(sig.(syscall.Signal))
			}
		}
	}
}

// inForeground reports whether we are the foreground job of a terminal: then
// the server stays in our process group, so that Ctrl-C and Ctrl-Z reach both.
func inForeground() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// hungUp reports whether the terminal went away.
func hungUp() bool {
	_, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err != nil
}
