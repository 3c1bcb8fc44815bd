package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/ready"
	"github.com/upgrader/upgrader/upgrader/state"
)

// flags are the flags of the main command as they were given.
type flags struct {
	config upgrader.Config

	listen                               []string
	proxy                                proxyFlags
	intercept, strategy, stderr, restart string
	shm, onUnsaved                       string
	memory                               upgrader.Memory
	ready, dialects                      string
	safety                               safety
	stopSignal, swapSignal, reloadSignal string
	user, umask                          string
	logFormat, logLevel                  string
	http, httpToken                      string
	init                                 bool
	configFile, logFile                  string
	daemon                               bool
	retireDelay                          time.Duration
	profile                              string
	system                               systemFlags

	given func(flag string) bool // whether it was, on the command line, in the environment or in the file
}

func (f *flags) register(set *pflag.FlagSet) {
	c := &f.config
	*c = upgrader.Defaults()
	set.SortFlags = false
	set.StringArrayVarP(&f.listen, "listen", "l", nil, "claim an address, `[NAME=]ADDR`: 8080, :8080, host:port, [::1]:80, tcp://, tcp4://, tcp6://, udp://, unix:///path, unixgram:///path; repeatable")
	f.proxy.register(set)
	set.IntVar(&c.StoreMax, "store-max", c.StoreMax, "`N` descriptors that the server may park for its successor (FDSTORE=1 on NOTIFY_SOCKET); 0: none")
	set.StringVar(&f.intercept, "intercept", string(c.Intercept), "take over the server's own bind(2): `auto|on|off`; auto: when no address is claimed")
	set.StringVar(&f.strategy, "strategy", "", "`overlap|exclusive`: start the successor beside its predecessor, or after it (default overlap; exclusive with --shm and --profile nfshm)")
	set.StringVar(&f.shm, "shm", "", "share memory among generations, `SPEC`: memfd:NAME,size=256M, posix:/NAME, sysv:0x100d0a01, file:PATH")
	set.StringVar(&f.profile, "profile", "", "presets for a kind of server: `nfshm` (NFPluginLoader of NFShmXFrame: see docs/nfshm.md)")
	set.StringVar(&f.memory.BackupDir, "backup-dir", "", "`DIR` of the segment's snapshots (default: snapshots in the state dir)")
	set.IntVar(&f.memory.BackupKeep, "backup-keep", 3, "how many snapshots are kept")
	set.DurationVar(&f.memory.BackupInterval, "backup-interval", 0, "between snapshots beside those before swaps; 0: none")
	set.StringVar(&f.onUnsaved, "on-unsaved", string(upgrader.UnsavedKeep), "when the last writer ended without saving the segment: `keep|restore|refuse`")
	set.StringVar(&f.memory.Validate, "validate", "", "`CMD` that tells by its exit status whether the segment is sound: before a generation starts on it, and before a commit")
	set.StringVar(&f.memory.Migrate, "migrate", "", "`CMD` that brings a copy of the segment into the schema of a successor that cannot take it as it is")
	set.StringVar(&f.dialects, "dialect", defaultDialects, "how the server is told of its sockets, `NAME,...`: "+strings.Join(dialect.Names(), ", "))
	set.StringVar(&f.ready, "ready", "auto", "what proves readiness, `SPEC`: auto, notify, listen, accept, delay=D, tcp=ADDR, http=URL or exec=CMD")
	set.DurationVar(&c.ReadyTimeout, "ready-timeout", c.ReadyTimeout, "then a successor is killed and the swap rolled back")
	set.DurationVar(&c.Settle, "settle", c.Settle, "how long a left lane must stay quiet before its server is told to quit (0: do not wait for what is in flight)")
	set.DurationVar(&c.SettleMax, "settle-max", c.SettleMax, "how long to wait for that")
	set.DurationVar(&c.HoldMax, "hold-max", c.HoldMax, "how long clients wait for somebody who serves before they are refused; 0: for ever")
	f.safety.register(set, c)
	set.StringVar(&f.stopSignal, "stop-signal", "TERM", "`SIG` that asks the server to quit at a full stop")
	set.StringVar(&f.swapSignal, "swap-signal", "", "`SIG` that asks a predecessor to quit (default: the stop signal)")
	set.DurationVar(&c.StopTimeout, "stop-timeout", c.StopTimeout, "then KILL, to all its processes; 0: never")
	set.DurationVar(&c.Insist, "graceful-timeout", 0, "before KILL: then the stop signal goes to all processes of a server that has not quit; 0: never")
	set.DurationVar(&c.DrainTimeout, "drain-timeout", 0, "as --stop-timeout, for a predecessor in a swap (default: --stop-timeout)")
	set.DurationVar(&c.Linger, "linger-timeout", 0, "as --stop-timeout, for processes that outlive their main one (default: --stop-timeout)")
	set.DurationVar(&f.retireDelay, "retire-delay", 0, "after a commit: how long the predecessor goes on before it is told to quit")
	set.IntVar(&c.DrainMax, "drain-max", c.DrainMax, "predecessors that drain at a time; past it the oldest is killed")
	set.StringVar(&f.reloadSignal, "reload-signal", "HUP", "`SIG` that `upgrader reload` sends to the server")
	set.StringVar(&c.ReloadCmd, "reload-cmd", "", "`CMD` that `upgrader reload` runs instead (MAINPID in its environment)")
	set.DurationVar(&c.Watchdog, "watchdog", 0, "how often the server has to say WATCHDOG=1 (it finds WATCHDOG_USEC) before it is aborted and started again; 0: never")
	set.StringVar(&f.restart, "restart", string(c.Restart), "when the server ends by itself: `always|on-failure|never`")
	set.IntVar(&c.RetryMax, "retry-max", c.RetryMax, "starts in a row that may fail before the upgrader gives up")
	set.DurationVar(&c.RetryInterval, "retry-interval", c.RetryInterval, "before the second retry, doubling")
	set.StringVar(&c.ForkingPidFile, "forking-pid-file", "", "the server daemonises and writes its main pid to `FILE`")
	set.StringVar(&f.stderr, "stderr", string(c.Stderr), "`tail|inherit`: through a file that outlives us and is forwarded, or straight to ours")
	set.BoolVar(&c.DieWithParent, "die-with-parent", false, "the server is killed when the upgrader dies, however that happens")
	set.StringVar(&c.Name, "name", "", "`NAME` of the service, for upgrader status and its like (default: made of the command), and what Server= selects in the HTTP API")
	set.StringVar(&c.StateDir, "state-dir", "", "`DIR` of control socket, lock and last state (default: by name, in /run/upgrader or XDG_RUNTIME_DIR)")
	set.StringVar(&c.PidFile, "pid-file", "", "`FILE` with the upgrader's pid")
	set.StringVar(&c.StatusFile, "status-file", "", "`FILE` with a line GENERATION:PID for each generation")
	set.StringVar(&c.Dir, "dir", "", "working `DIR` of the server")
	set.StringVar(&c.EnvFile, "env-file", "", "`FILE` of KEY=VALUE lines for the server, read again at each start")
	set.StringVar(&f.user, "user", "", "`USER[:GROUP]` that the server runs as")
	set.StringVar(&f.umask, "umask", "", "octal `MASK` of the server")
	set.BoolVar(&f.init, "init", false, "keep a small init in the process that was started, so that it stays the same over self-upgrades (always as PID 1)")
	set.StringVar(&f.http, "http", "", "`ADDR|on` of the HTTP API; on: 127.0.0.1:6011 (default: none)")
	set.StringVar(&f.httpToken, "http-token-file", "", "`FILE` with the token that the HTTP API wants; needed for any address but loopback")
	set.StringVar(&c.ID, "id", "", "what `ID`= selects in the HTTP API, and commands beside the name (--profile nfshm: that of the command)")
	set.StringVar(&c.Zone, "zone", "", "what `ZONE`= selects in the HTTP API (likewise)")
	set.StringVar(&c.Type, "type", "", "what ServerType=`TYPE` selects in the HTTP API (likewise its --Server)")
	set.StringVar(&f.configFile, "config", "", "`FILE` of YAML with flags, and with several services if there are (docs/config.md)")
	set.BoolVarP(&f.daemon, "daemon", "d", false, "go on in the background: the command returns when the server is ready, with its exit status else")
	set.StringVar(&f.logFile, "log-file", "", "`FILE` that stdout and stderr are appended to; with --daemon nowhere if none is given")
	f.system.register(set)
	set.StringVar(&f.logFormat, "log-format", "console", "`console|json`")
	set.StringVar(&f.logLevel, "log-level", "info", "`debug|info|warn|error`")
}

// parse makes the Config, with an error that names the flag.
func (f *flags) parse(command []string) (upgrader.Config, error) {
	c := f.config
	c.Command = command
	f.system.strategy(f)
	for _, spec := range f.listen {
		addresses := strings.Fields(spec) // in the environment: blanks between
		if len(addresses) == 0 {
			return c, errors.New("--listen: the address is empty")
		}
		for _, one := range addresses {
			a, err := listener.ParseAddress(one)
			if err != nil {
				return c, fmt.Errorf("--listen: %w", err)
			}
			c.Listen = append(c.Listen, a)
		}
	}
	var err error
	if c.Intercept, err = oneOf("intercept", f.intercept, upgrader.InterceptAuto, upgrader.InterceptOn, upgrader.InterceptOff); err != nil {
		return c, err
	}
	if err := f.parseMemory(&c); err != nil {
		return c, err
	}
	if c.Proxies, err = f.proxy.parse(); err != nil {
		return c, err
	}
	if c.Restart, err = oneOf("restart", f.restart, upgrader.RestartAlways, upgrader.RestartOnFailure, upgrader.RestartNever); err != nil {
		return c, err
	}
	if c.Stderr, err = oneOf("stderr", f.stderr, upgrader.StderrTail, upgrader.StderrInherit); err != nil {
		return c, err
	}
	if c.Dialects, err = dialect.Parse(f.dialects); err != nil {
		return c, fmt.Errorf("--dialect: %w", err)
	}
	var lanes []dialect.Lane
	for _, a := range c.Listen {
		lanes = append(lanes, dialect.Lane{Claim: a.Name, Spec: a.Spec, Network: a.Network})
	}
	if err := dialect.Check(c.Dialects, lanes); err != nil {
		return c, fmt.Errorf("--listen: %w", err)
	}
	if c.Ready, err = ready.Parse(f.ready); err != nil {
		return c, fmt.Errorf("--ready: %w", err)
	}
	if err := f.safety.parse(&c); err != nil {
		return c, err
	}
	for _, s := range []struct {
		flag, value string
		to          *syscall.Signal
	}{{"stop-signal", f.stopSignal, &c.StopSignal}, {"swap-signal", f.swapSignal, &c.SwapSignal}, {"reload-signal", f.reloadSignal, &c.ReloadSig}} {
		if s.value == "" {
			continue
		}
		if *s.to, err = parseSignal(s.value); err != nil {
			return c, fmt.Errorf("--%s: %w", s.flag, err)
		}
	}
	if f.umask != "" {
		n, err := strconv.ParseUint(f.umask, 8, 9)
		if err != nil {
			return c, fmt.Errorf("--umask %s: want an octal number up to 777", f.umask)
		}
		mask := int(n)
		c.Umask = &mask
	}
	if f.user != "" {
		if c.User, err = parseUser(f.user); err != nil {
			return c, fmt.Errorf("--user: %w", err)
		}
	}
	if c.Dir != "" {
		if info, err := os.Stat(c.Dir); err != nil {
			return c, fmt.Errorf("--dir: %w", err)
		} else if !info.IsDir() {
			return c, fmt.Errorf("--dir %s: not a directory", c.Dir)
		}
	}
	if len(c.Listen) == 0 && c.Intercept == upgrader.InterceptOff && c.Ready.Kind == ready.Accept {
		return c, errors.New("--ready accept needs an address: give --listen, or let --intercept be auto")
	}
	switch {
	case f.retireDelay < 0:
		return c, errors.New("--retire-delay must not be negative")
	case f.retireDelay > 0:
		c.RetireDelay = func() time.Duration { return f.retireDelay }
	}
	if err := f.system.parse(f, &c); err != nil {
		return c, err
	}
	if err := f.preset(&c); err != nil {
		return c, err
	}
	return c, f.place(&c)
}

// parseMemory reads what belongs to the segment, and the strategy that follows.
func (f *flags) parseMemory(c *upgrader.Config) (err error) {
	strategy := f.strategy
	switch {
	case strategy != "":
	case f.shm != "" || f.profile != "":
		strategy = string(upgrader.Exclusive)
	default:
		strategy = string(upgrader.Overlap)
	}
	if c.Strategy, err = oneOf("strategy", strategy, upgrader.Overlap, upgrader.Exclusive); err != nil {
		return err
	}
	m := f.memory
	if m.OnUnsaved, err = oneOf("on-unsaved", f.onUnsaved, upgrader.UnsavedKeep, upgrader.UnsavedRestore, upgrader.UnsavedRefuse); err != nil {
		return err
	}
	if f.shm == "" && f.profile == "" {
		if m.BackupDir != "" || m.BackupInterval != 0 || m.Validate != "" || m.Migrate != "" || m.OnUnsaved != upgrader.UnsavedKeep {
			return errors.New("--backup-dir, --backup-interval, --validate, --migrate and --on-unsaved are about a segment: give --shm")
		}
		return nil
	}
	if f.shm != "" {
		if m.Spec, err = shmbridge.ParseSpec(f.shm); err != nil {
			return fmt.Errorf("--shm: %w", err)
		}
	}
	if err := f.system.memory(f, &m); err != nil {
		return err
	}
	if m.BackupKeep < 1 {
		return errors.New("--backup-keep must be at least 1")
	}
	if m.BackupDir != "" {
		if m.BackupDir, err = filepath.Abs(m.BackupDir); err != nil {
			return fmt.Errorf("--backup-dir: %w", err)
		}
	}
	c.Memory = &m
	return nil
}

// place finds the name and the state dir.
func (f *flags) place(c *upgrader.Config) error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	return f.placeAs(c, cwd, c.Command)
}

// placeAs is place for what is distinguished by a directory and words.
func (f *flags) placeAs(c *upgrader.Config, dir string, distinct []string) (err error) {
	if c.Name == "" {
		c.Name = state.Name(dir, distinct)
	} else if err := state.CheckName(c.Name); err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	if c.StateDir == "" {
		c.StateDir, err = state.Default(c.Name)
	} else {
		c.StateDir, err = filepath.Abs(c.StateDir)
	}
	return err
}

// oneOf reads a flag that takes one of a few words.
func oneOf[T ~string](flag, value string, words ...T) (T, error) {
	var all []string
	for _, w := range words {
		if value == string(w) {
			return w, nil
		}
		all = append(all, string(w))
	}
	return "", fmt.Errorf("--%s %s: want %s", flag, value, strings.Join(all, ", "))
}

// parseUser reads USER[:GROUP], names or numbers.
func parseUser(s string) (*upgrader.User, error) {
	name, group, grouped := strings.Cut(s, ":")
	var out upgrader.User
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			n, nerr := strconv.ParseUint(name, 10, 32)
			if nerr != nil {
				return nil, fmt.Errorf("%s: no such user", name)
			}
			out.Uid, out.Gid = uint32(n), uint32(n)
		}
	}
	if err == nil {
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		out.Uid, out.Gid = uint32(uid), uint32(gid)
		if ids, err := u.GroupIds(); err == nil {
			for _, id := range ids {
				if n, err := strconv.ParseUint(id, 10, 32); err == nil {
					out.Groups = append(out.Groups, uint32(n))
				}
			}
		}
	}
	if grouped {
		n, err := strconv.ParseUint(group, 10, 32)
		if err != nil {
			g, err := user.LookupGroup(group)
			if err != nil {
				return nil, fmt.Errorf("%s: no such group", group)
			}
			n, _ = strconv.ParseUint(g.Gid, 10, 32)
		}
		out.Gid, out.Groups = uint32(n), []uint32{uint32(n)}
	}
	return &out, nil
}
