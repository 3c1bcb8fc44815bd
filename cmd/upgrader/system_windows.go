package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/ready"
	"github.com/upgrader/upgrader/winevents"
)

// A handle keeps its number in a child: dialects that count descriptors from
// 3 on mean nothing here.
const defaultDialects = "server-starter"

// systemFlags are those of Windows.
type systemFlags struct {
	ask string
	dev bool
}

func (f *systemFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.ask, "ask", "console", "how the server is asked to quit: `console|events`: by CTRL_BREAK, or by the named events NFServer_Kill_PID (in a swap) and NFServer_Stop_PID")
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

// section takes --shm, which means sections here.
func (f *systemFlags) section(all *flags, c *upgrader.Config) error {
	if all.profile != "" {
		return fmt.Errorf("--profile %s: its servers, and their segments, are Linux's", all.profile)
	}
	if all.shm == "" {
		if f.dev {
			return errors.New("--dev is about a section: give --shm section:NAME")
		}
		return nil
	}
	text, file, _ := strings.Cut(all.shm, ",file=")
	spec, err := shmbridge.ParseSpec(text)
	if err != nil {
		return fmt.Errorf("--shm: %w", err)
	}
	if spec.Kind != shmbridge.Section {
		return fmt.Errorf("--shm %s: on Windows it has to be section:NAME", all.shm)
	}
	if file != "" {
		if file, err = filepath.Abs(file); err != nil {
			return fmt.Errorf("--shm: %w", err)
		}
	}
	c.Section = &upgrader.Section{Name: spec.Name, Size: spec.Size, File: file, Dev: f.dev}
	all.shm = ""
	if all.strategy == "" {
		all.strategy = string(upgrader.Exclusive)
	}
	return nil
}

func (f *systemFlags) parse(c *upgrader.Config) error {
	type way string
	ask, err := oneOf("ask", f.ask, way("console"), way("events"))
	if err != nil {
		return err
	}
	if ask == "events" {
		times := winevents.Times{Confirm: c.DrainTimeout}
		if c.RetireDelay != nil {
			times.Hold = c.RetireDelay()
		}
		c.Quit = upgrader.QuitByEvents(times)
		if c.DrainTimeout == 0 && c.StopTimeout == upgrader.Defaults().StopTimeout { // enough for a server that keeps to the protocol
			c.DrainTimeout = winevents.DefaultConfirm + winevents.DefaultLinger
		}
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
