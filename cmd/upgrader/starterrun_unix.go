//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/ready"
	"github.com/upgrader/upgrader/upgrader/state"
)

// run is start_server itself.
func (s *starter) run() error {
	daemon := newBackground()
	if s.daemonize && !daemon.inside() {
		return daemon.start()
	}
	env := s.environ(os.Environ())
	c, err := s.config(env)
	if err != nil {
		return err
	}
	sink, err := openSink(s.logFile)
	if err != nil {
		return err
	}
	defer sink.close()
	log, err := newLog("console", "info")
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // stderr cannot be synced everywhere
	up, auto := newUpward(os.Getenv("NOTIFY_SOCKET"), 1), newAutoRestart(env)
	c.Observe = func(e upgrader.Event) {
		report(log, e)
		up.tell("", e)
		auto.saw(e)
	}
	signals := make(chan os.Signal, 64)
	c.Ignored = slices.DeleteFunc(launch.Ignored(), func(sig syscall.Signal) bool { return slices.Contains(starterSignals(), os.Signal(sig)) })
	c.Ignored = append(c.Ignored, syscall.SIGPIPE) // as there: servers rely on it
	signal.Ignore(syscall.SIGPIPE)                 // a log that nobody reads must not end us
	signal.Notify(signals, append(starterSignals(), slices.DeleteFunc(ours(), func(sig os.Signal) bool {
		return slices.Contains(c.Ignored, sig.(syscall.Signal))
	})...)...)
	defer signal.Stop(signals)
	term, err := starterSignal(s.term)
	if err != nil {
		return fmt.Errorf("--signal-on-term: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	exited, err := upgrader.Run(context.Background(), c, func(service *upgrader.Service) {
		sink.redirect(log)
		daemon.cameUp(0)
		go up.beat(service, ctx.Done())
		go obeyStarter(ctx, service, signals, term)
		go auto.run(ctx, service)
	})
	switch {
	case errors.Is(err, upgrader.ErrUsage):
		return err
	case err != nil:
		return &exit{exited.Code, err}
	case exited.Reason != nil:
		return &exit{max(1, exited.Code), exited.Reason}
	}
	return nil // whatever the status of the server was, as there
}

// config is what the options say.
func (s *starter) config(env starterEnv) (upgrader.Config, error) {
	c := upgrader.Defaults()
	c.Command, c.Dir, c.Environ, c.EnvDir = s.command, s.dir, env.base, env.dir
	c.PidFile, c.StatusFile = s.pidFile, s.statusFile
	c.Intercept, c.Terminal = upgrader.InterceptOff, inForeground()
	var err error
	if c.Listen, c.Numbers, err = s.listen(); err != nil {
		return c, err
	}
	if c.Dialects, err = dialect.Parse("server-starter"); err != nil {
		return c, err
	}
	interval := time.Second
	if s.interval != nil {
		interval = time.Duration(*s.interval)
	}
	c.Ready = ready.Spec{Kind: ready.Delay, Delay: interval}
	c.ReadyTimeout = interval + time.Minute
	c.Persistent, c.RetryInterval, c.RetryLongest = true, max(interval, time.Second), max(interval, time.Minute)
	c.RetireDelay, c.DrainMax = env.killOldDelay, 16
	if c.SwapSignal, err = starterSignal(s.hup); err != nil {
		return c, fmt.Errorf("--signal-on-hup: %w", err)
	}
	if c.StopTimeout, err = timeout("UPGRADER_STOP_TIMEOUT", c.StopTimeout); err != nil {
		return c, fmt.Errorf("UPGRADER_STOP_TIMEOUT: %w", err)
	}
	if c.DrainTimeout, err = timeout("UPGRADER_DRAIN_TIMEOUT", 5*time.Minute); err != nil {
		return c, fmt.Errorf("UPGRADER_DRAIN_TIMEOUT: %w", err)
	}
	return c, s.place(&c)
}

// place gives the service a name of its own. Two with the same command are
// told apart by what only one of them can have.
func (s *starter) place(c *upgrader.Config) error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	distinct := slices.Clone(s.command)
	for _, a := range c.Listen {
		distinct = append(distinct, a.String())
	}
	for _, path := range []string{s.pidFile, s.statusFile} {
		if path == "" {
			continue
		}
		if path, err = filepath.Abs(path); err != nil {
			return err
		}
		distinct = append(distinct, path)
	}
	if slices.ContainsFunc(c.Listen, func(a listener.Address) bool { return a.Network != "unix" && a.Port == 0 }) || len(distinct) == len(s.command) {
		distinct = append(distinct, strconv.Itoa(os.Getpid()))
	}
	c.Name = state.Name(cwd, distinct)
	c.StateDir, err = state.Default(c.Name)
	return err
}

// starterSignal reads the name of a signal; none is TERM.
func starterSignal(name string) (syscall.Signal, error) {
	if name == "" {
		return syscall.SIGTERM, nil
	}
	return parseSignal(name)
}

// starterSignals are handled even when we were started with them ignored, as
// nohup does it: that is how start_server is told what to do.
func starterSignals() []os.Signal {
	return []os.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT}
}

// obeyStarter turns signals into wishes.
func obeyStarter(ctx context.Context, s *upgrader.Service, signals <-chan os.Signal, term syscall.Signal) {
	interrupted := false
	for {
		var sig os.Signal
		select {
		case <-ctx.Done():
			return
		case sig = <-signals:
		}
		switch sig {
		case syscall.SIGHUP:
			s.Swap("signal HUP")
		case syscall.SIGUSR2:
			s.Swap("signal USR2")
		case syscall.SIGTERM: // once more changes nothing, as there: the deadline stands
			s.StopWith(term)
		case syscall.SIGINT:
			if interrupted {
				s.Kill()
			}
			interrupted = true
			s.StopWith(syscall.SIGTERM)
		case syscall.SIGQUIT:
			s.Kill()
		default:
			s.Signal(sig.(syscall.Signal))
		}
	}
}

// A sink is where --log-file says that all output goes.
type sink struct{ file *os.File }

// openSink opens a file for appending, or starts the command behind a |.
func openSink(spec string) (*sink, error) {
	if spec == "" {
		return &sink{}, nil
	}
	command, piped := pipedTo(spec)
	if !piped {
		f, err := os.OpenFile(spec, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
		if err != nil {
			return nil, fmt.Errorf("failed to open log file: %w", err)
		}
		return &sink{f}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("failed to open pipe: %w", err)
	}
	defer r.Close() // the command has its own
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", command}, &os.ProcAttr{Files: []*os.File{r, os.Stdout, os.Stderr}})
	if err != nil {
		_ = w.Close() // nothing was written
		return nil, fmt.Errorf("failed to start %s: %w", command, err)
	}
	return &sink{w}, p.Release() // it ends when the last writer has; the reaper takes its status
}

// redirect makes it stdout and stderr, ours and those of servers to come.
func (k *sink) redirect(log *zap.Logger) {
	if k.file == nil {
		return
	}
	for _, fd := range []int{1, 2} {
		if err := redirect(k.file, fd); err != nil {
			log.Warn("the log file cannot take the output", zap.Error(err))
		}
	}
	k.close()
}

func (k *sink) close() {
	if k.file != nil {
		_ = k.file.Close() // it is written to through stdout and stderr
		k.file = nil
	}
}
