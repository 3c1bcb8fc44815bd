package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/nfshm"
	"github.com/upgrader/upgrader/upgrader/ready"
	"github.com/upgrader/upgrader/winevents"
)

// A handle keeps its number in a child: dialects that count descriptors from
// 3 on mean nothing here.
const defaultDialects = "server-starter"

// systemFlags are those of Windows.
type systemFlags struct {
	ask     string
	late    string
	confirm time.Duration
	dev     bool
}

func (f *systemFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.ask, "ask", "console", "how the server is asked to quit: `console|events`: by CTRL_BREAK, or by the named events NFServer_Kill_PID (in a swap) and NFServer_Stop_PID")
	set.StringVar(&f.late, "unconfirmed", string(winevents.DeadlineRefuse), "a predecessor that was asked by events and has not confirmed in time: `refuse|proceed|kill`: wait on, start beside it (two writers), end it")
	set.DurationVar(&f.confirm, "confirm-timeout", 0, "how long it may take to confirm that it has saved (default: --drain-timeout, else 15s)")
	set.BoolVar(&f.dev, "dev", false, "allow swaps of a section that the page file backs")
	set.Lookup("strategy").Usage = "`overlap|exclusive`: start the successor beside its predecessor, or after it (default exclusive; overlap with --listen, unless --proxy or --shm is given: there is one socket, and one port, for both)"
	set.Lookup("shm").Usage = "keep a section that generations share, `SPEC`: section:NAME (the server creates it), section:NAME,size=64M (we do), section:NAME,size=64M,file=PATH (a file backs it)"
}

// strategy is chosen where none is given: two generations cannot bind one port, and of a socket that both have nobody
// knows who accepts.
func (*systemFlags) strategy(all *flags) {
	if all.strategy == "" && (len(all.listen) == 0 || len(all.proxy.proxy) > 0) {
		all.strategy = string(upgrader.Exclusive)
	}
}

// memory looks at --shm, which means sections here. One without a size is the
// server's to make.
func (f *systemFlags) memory(all *flags, m *upgrader.Memory) error {
	if all.shm == "" {
		return nil
	}
	if m.Spec.Kind != shmbridge.Section {
		return fmt.Errorf("--shm %s: on Windows it has to be section:NAME", all.shm)
	}
	m.Dev, m.Made = f.dev, m.Spec.Size == 0 && m.Spec.File == ""
	return nil
}

// nfshm presets how its server is asked, by events, and how long for: what
// becomes of one that does not confirm is the policy's.
func (f *systemFlags) nfshm(all *flags, c *upgrader.Config, _ nfshm.Command) error {
	switch {
	case all.shm == "":
		return errors.New("--profile nfshm: name the section that the server keeps its objects in: --shm section:NAME")
	case all.given("ask") && f.ask != "events":
		return errors.New("--ask " + f.ask + ": --profile nfshm asks by events")
	}
	c.Quit = f.events(c)
	if !all.given("stop-timeout") {
		c.StopTimeout, c.SwapTimeout = 0, 0
	}
	return nil
}

// events ask as the flags say.
func (f *systemFlags) events(c *upgrader.Config) upgrader.Quit {
	times := winevents.Times{Confirm: f.confirm}
	if f.confirm == 0 {
		times.Confirm = c.DrainTimeout
	}
	if c.RetireDelay != nil {
		times.Hold = c.RetireDelay()
	}
	return upgrader.QuitByEvents(winevents.AskConfig{Times: times, AtDeadline: winevents.Deadline(f.late)})
}

func (f *systemFlags) parse(all *flags, c *upgrader.Config) error {
	if f.dev && c.Memory == nil {
		return errors.New("--dev is about a section: give --shm section:NAME")
	}
	type way string
	ask, err := oneOf("ask", f.ask, way("console"), way("events"))
	if err != nil {
		return err
	}
	late, err := oneOf("unconfirmed", f.late, winevents.DeadlineRefuse, winevents.DeadlineProceed, winevents.DeadlineKill)
	if err != nil {
		return err
	}
	if f.confirm < 0 {
		return errors.New("--confirm-timeout must not be negative")
	}
	switch {
	case ask == "events":
		c.Quit = f.events(c)
		if c.DrainTimeout == 0 && c.StopTimeout == upgrader.Defaults().StopTimeout { // enough for a server that keeps to the protocol
			c.DrainTimeout = max(f.confirm, winevents.DefaultConfirm) + winevents.DefaultLinger
		}
	case all.profile != "": // which asks by events
	case late != winevents.DeadlineRefuse || f.confirm != 0:
		return errors.New("--unconfirmed and --confirm-timeout are about events: give --ask events")
	}
	switch c.Ready.Kind {
	case ready.Listen, ready.Accept:
		return errors.New("--ready " + string(c.Ready.Kind) + ": it cannot be seen on Windows: give notify (UPGRADER_READY_EVENT), delay, tcp, http or exec")
	}
	for _, d := range c.Dialects {
		switch d.Name() {
		case "server-starter", dialect.Systemfd, "none":
		default:
			return errors.New("--dialect " + d.Name() + ": it counts descriptors, which Windows does not have: want server-starter, systemfd or none")
		}
	}
	if err := checkProxies(c); err != nil {
		return err
	}
	switch {
	case c.Intercept == upgrader.InterceptOn:
		return errors.New("--intercept on: a bind can be taken over on Linux only")
	case c.Watchdog != 0:
		return errors.New("--watchdog: WATCHDOG=1 cannot be said on Windows, which has no notify socket")
	case c.User != nil || c.Umask != nil:
		return errors.New("--user and --umask are not for Windows")
	}
	c.Intercept = upgrader.InterceptOff
	return nil
}

// checkProxies refuses what a proxy cannot do here.
func checkProxies(c *upgrader.Config) error {
	for _, p := range c.Proxies {
		switch {
		case p.Intercepted():
			return fmt.Errorf("--proxy %s=intercepted: a bind can be taken over on Linux only: give the address where the server listens", p.Public)
		case p.Public.Network == "unix" || p.Backend.Network == "unix":
			return fmt.Errorf("--proxy %s: there are no unix sockets on Windows", p.Public)
		case p.UserTimeout != 0:
			return errors.New("--proxy-user-timeout: TCP_USER_TIMEOUT is Linux's")
		case c.Strategy == upgrader.Overlap:
			return errors.New("--strategy overlap: behind --proxy generations run one after the other on Windows, where they cannot be told apart by their socket: leave it out")
		}
	}
	return nil
}
