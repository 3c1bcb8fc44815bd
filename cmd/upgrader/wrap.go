package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/self"
)

// wrap runs the service, or the services of --config, until they have stopped.
// The exit status is the server's own, or says what was wrong with us.
func wrap(f *flags, set *pflag.FlagSet, command []string) error {
	daemon, above := newBackground(), self.UnderInit() // before the environment is taken for the server's
	p, errs := makePlan(f, set, command, os.LookupEnv)
	if err := firstOf(errs, f.configFile); err != nil {
		return &exit{exitUsage, err}
	}
	if p.own.daemon && !daemon.inside() && !self.Succeeds() {
		return daemon.start()
	}
	log, err := newLog(p.own.logFormat, p.own.logLevel)
	if err != nil {
		return &exit{exitUsage, err}
	}
	defer func() { _ = log.Sync() }() // stderr cannot be synced everywhere
	if above == nil && !self.Succeeds() && (p.own.init || os.Getpid() == 1) {
		return stayBehind(daemon)
	}
	if above != nil || self.Succeeds() {
		inheritWatchdog()
	}
	out, err := openOutput(p.own.logFile, p.own.daemon)
	if err != nil {
		return &exit{exitUsage, fmt.Errorf("--log-file: %w", err)}
	}
	defer out.close()
	for _, err := range p.idle {
		log.Warn(strings.TrimPrefix(err.Error(), "--"))
	}
	h := &host{
		plan: p, log: log, output: out, memory: newTidier(), daemon: daemon, above: above, terminal: inForeground(), ignored: launch.Ignored(),
		up: newUpward(os.Getenv("NOTIFY_SOCKET"), len(p.services)), signals: make(chan os.Signal, 64), done: make(chan struct{}),
	}
	defer close(h.done)
	if err := h.succeed(); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads must not end us
	signal.Notify(h.signals, slices.DeleteFunc(ours(), func(sig os.Signal) bool {
		return slices.Contains(h.ignored, sig.(syscall.Signal)) // as nohup wants it
	})...)
	defer signal.Stop(h.signals)
	if slices.ContainsFunc(p.services, func(c upgrader.Config) bool { return c.Outsiders != nil }) {
		signal.Notify(make(chan os.Signal, 1), nfQuit) // which such servers send to their whole group when their pid file is empty
	}
	if h.api, err = p.own.openHTTP(log, h.self.Inherited()); err != nil {
		h.self.Inherited().Failed(oneLine(err.Error()))
		return err
	}
	defer h.api.close()
	exited, err := h.run()
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

// firstOf gives the first error, and says where the others are to be seen.
func firstOf(errs []error, file string) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	default:
		return fmt.Errorf("%w (and %d more: upgrader config check %s)", errs[0], len(errs)-1, file)
	}
}

// A host is this process: what it has once, however many services it runs.
type host struct {
	plan     *plan
	log      *zap.Logger
	output   *output
	memory   *tidier
	daemon   *background
	above    *self.Above // the small init that started us; nil: none
	self     *self.Self  // this process as one that can be replaced; nil: it cannot
	noSelf   string      // why not; "": not on this system
	up       *upward
	api      *httpAPI
	signals  chan os.Signal
	done     chan struct{} // closed at the end
	terminal bool
	ignored  []syscall.Signal
}

// A target is what signals are for: a service, or a fleet of them.
type target interface {
	Swap(asked string)
	Signal(sig syscall.Signal)
	Stop()
	Kill()
	Alive(ctx context.Context) error
}

// run runs what the plan has.
func (h *host) run() (upgrader.Exit, error) {
	if h.plan.several {
		return h.runFleet()
	}
	c := h.adapt(h.plan.services[0])
	c.Observe = func(e upgrader.Event) {
		h.saw(h.log, "", e)
		switch {
		case e.What == upgrader.EventReady || e.What == upgrader.EventRolled && e.State == upgrader.Serving:
			h.cameUp(0)
		case e.What == upgrader.EventHandedOver:
			h.succeeded(e.Pid)
		}
	}
	c.Self, c.NoSelf, c.Carry = h.self, h.noSelf, h.carry
	service := control.Service{Server: cmp.Or(c.Server, c.Name), ID: c.ID, Zone: c.Zone, Type: c.Type}
	return upgrader.Run(context.Background(), c, func(s *upgrader.Service) {
		service.Handler = s.Handler()
		h.obey(s, s.InCharge(), func() []control.Service { return []control.Service{service} })
	})
}

// adapt gives a Config what comes of the process that it runs in.
func (h *host) adapt(c upgrader.Config) upgrader.Config {
	c.Terminal, c.Ignored = h.terminal, h.ignored
	c.Stdout, c.Stderrs = h.output.stdout(), h.output.stderr(c.Stderr == upgrader.StderrInherit)
	return c
}

// saw tells everybody of an event of a service; "" when there is only one.
func (h *host) saw(log *zap.Logger, service string, e upgrader.Event) {
	report(log, e)
	h.up.tell(service, e)
	h.memory.saw(e)
}

// cameUp is told that the services serve, or failed at their first start.
func (h *host) cameUp(code int) {
	h.output.settle(h.log)
	h.daemon.cameUp(code)
}

// obey does what signals want from now on, and what requests want once t is in
// charge.
func (h *host) obey(t target, charge <-chan struct{}, services func() []control.Service) {
	go obey(t, h.signals, h.done, h.terminal)
	go func() {
		select {
		case <-charge:
			h.api.serve(services)
			h.up.beat(t, h.done)
		case <-h.done:
		}
	}()
}

// obey turns signals into wishes.
func obey(s target, signals <-chan os.Signal, done <-chan struct{}, terminal bool) {
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
