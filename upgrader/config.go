package upgrader

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/ready"
	"github.com/upgrader/upgrader/upgrader/self"
)

// Strategy says whether two generations may run at once.
type Strategy string

// The strategies.
const (
	Overlap   Strategy = "overlap"
	Exclusive Strategy = "exclusive"
)

// Restart says what happens when the server ends by itself.
type Restart string

// The restart policies.
const (
	RestartAlways    Restart = "always"
	RestartOnFailure Restart = "on-failure"
	RestartNever     Restart = "never"
)

// Intercept says whether the server's own bind(2) is taken over.
type Intercept string

// The ways to intercept.
const (
	InterceptAuto Intercept = "auto" // on when no address is claimed; without it where the kernel does not allow it
	InterceptOn   Intercept = "on"   // an error where the kernel does not allow it
	InterceptOff  Intercept = "off"
)

// StderrMode says where the server's stderr goes.
type StderrMode string

// The modes of stderr.
const (
	StderrTail    StderrMode = "tail"    // to a file of ours that outlives us, forwarded from there
	StderrInherit StderrMode = "inherit" // to ours
)

// Config describes one service. Fields say what their zero value means;
// Defaults fills those that design and help print.
type Config struct {
	Command []string // what is run; at least one element
	Name    string   // names the service among those of one user; "": the state dir's name
	Server  string   // what Server= selects over HTTP; "": the name
	Labels           // what selects it beside its name

	Dir     string   // working directory of the server; "": ours
	EnvFile string   // KEY=VALUE lines, read again at each start; "": none
	EnvDir  string   // a file for each variable, its first line the value, read again at each start; "": none
	Environ []string // environment that EnvDir and EnvFile add to; nil: os.Environ()
	User    *User    // who the server runs as; nil: as we do
	Umask   *int     // nil: ours

	Adopt *Foreign // serves already, and becomes generation 1; nil: nothing does

	Listen    []listener.Address // what is claimed at start
	Numbers   map[int]int        // descriptor numbers by index in Listen, 0 to 2 too; the others are counted from 3 (dialect.First)
	Dialects  []dialect.Dialect  // how the server receives its lanes
	Intercept Intercept          // "": auto
	Strategy  Strategy           // "": overlap

	Proxies  []Proxied // addresses whose clients keep their connections
	StoreMax int       // descriptors that the server may park with us; 0: none

	Memory    *Memory    // the segment that generations share; nil: none
	Outsiders *Outsiders // processes of this very server that others start; nil: not looked for

	Ready        ready.Spec    // what proves readiness
	ReadyTimeout time.Duration // then a start has failed
	Settle       time.Duration // how long a left lane must stay quiet
	SettleMax    time.Duration // how long to wait for that
	HoldMax      time.Duration // how long clients wait for somebody who serves; 0: for ever

	StopSignal   syscall.Signal       // asks the server to quit at a full stop
	SwapSignal   syscall.Signal       // asks a predecessor to quit; 0: StopSignal
	Quit         Quit                 // asks a server to quit in place of both signals; nil: the signals
	StopTimeout  time.Duration        // then KILL, to the whole generation; 0: never
	SwapTimeout  time.Duration        // as DrainTimeout, for one whose successor waits (exclusive); 0: DrainTimeout
	RetireDelay  func() time.Duration // asked after each commit: how long the predecessor goes on before it is left (overlap); nil: not at all
	DrainTimeout time.Duration        // as StopTimeout, for a predecessor in a swap; 0: StopTimeout
	Insist       time.Duration        // then StopSignal goes to all the processes of a generation that was asked to quit; 0: never
	Linger       time.Duration        // as StopTimeout, for processes that outlive their main one; 0: StopTimeout
	DrainMax     int                  // predecessors that drain at a time; past it the oldest is killed
	ReloadSig    syscall.Signal       // what `reload` sends; 0: HUP
	ReloadCmd    string               // what `reload` runs instead; "": the signal

	Probation time.Duration // after a commit; 0: off
	Warm      bool          // the predecessor keeps running, steered away, until probation ends (overlap)
	Canary    Canary        // of swaps that do not say otherwise (overlap)
	Watch     bool          // swap when the command's file is replaced

	Health        *ready.Spec   // checked every second on probation and while a canary has a share; nil: only death counts
	HealthTimeout time.Duration // of one check; 0: 5 s

	Watchdog time.Duration // how often a server that is ready has to say WATCHDOG=1; 0: it need not

	Restart       Restart       // "": always
	RetryMax      int           // starts in a row that may fail
	RetryInterval time.Duration // before the second retry, doubling; the first one is at once
	RetryLongest  time.Duration // what the doubling ends at; 0: 65536 intervals
	Persistent    bool          // every start that fails is tried again without end: the first one, and that of an overlap swap, too

	StateDir       string     // where state, sockets and files of ours lie
	PidFile        string     // "": none
	StatusFile     string     // "": none
	ForkingPidFile string     // the server daemonises and writes its main pid here; "": no such file
	Stderr         StderrMode // "": tail
	DieWithParent  bool       // the server is killed when we die
	Fleet          *Fleet     // what this service has in common with others of this process; nil: it is alone in it
	Terminal       bool       // we are in the foreground of a terminal: the server shares our process group

	Ignored []syscall.Signal // signals that the server finds ignored, as nohup(1) means it

	Stdin, Stdout, Stderrs *os.File // given to the server and written to; nil: ours

	Self   *self.Self         // this process as one that can be replaced; nil: it cannot
	NoSelf string             // why not; "": not on this system
	Carry  func() []self.File // what else a successor of this process is handed; nil: nothing. Called by the loop, the files are lent

	Observe func(Event) // told what happens, from the loop: must not block; nil: nobody
}

// Labels are what an operator calls a service.
type Labels struct {
	ID, Zone, Type string // "": none
}

// Fleet is what the services of one process share. Whoever makes one runs its
// reaper, and answers for all of them: a service of a fleet has no control
// socket of its own.
type Fleet struct {
	Reaper  *process.Reaper
	Proxies int // of all the services: they divide the descriptors of the process
}

// User is who a server runs as.
type User struct {
	Uid, Gid uint32
	Groups   []uint32
}

// Defaults gives a Config with every default that the help prints.
func Defaults() Config {
	return Config{
		Intercept: InterceptAuto, Strategy: Overlap, Ready: ready.Spec{Kind: ready.Auto},
		ReadyTimeout: 60 * time.Second, Settle: 100 * time.Millisecond, SettleMax: time.Second, HoldMax: 2 * time.Minute,
		StoreMax:   1024,
		StopSignal: syscall.SIGTERM, StopTimeout: 10 * time.Second, DrainMax: 4, ReloadSig: syscall.SIGHUP,
		Probation: 10 * time.Second, Canary: Canary{Step: 10 * time.Second}, HealthTimeout: 5 * time.Second,
		Restart: RestartAlways, RetryMax: 3, RetryInterval: 5 * time.Second,
		Stderr: StderrTail,
	}
}

// ErrUsage is what an error of a Config wraps: the caller asked for something
// that cannot be.
var ErrUsage = errors.New("usage")

func usage(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, a...))
}

// Check tells what Run would refuse, without running anything.
func (c Config) Check() error { return c.check() }

// check fills what zero values mean and refuses what cannot be.
func (c *Config) check() error {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return usage("no command: write it behind --, as in: upgrader -- ./server")
	}
	if c.Environ == nil {
		c.Environ = os.Environ()
	}
	if c.Ready.Kind == "" {
		c.Ready.Kind = ready.Auto
	}
	if c.SwapSignal == 0 {
		c.SwapSignal = c.StopSignal
	}
	if c.DrainMax < 1 {
		return usage("drain-max must be at least 1")
	}
	if c.RetryMax < 0 {
		return usage("retry-max must not be negative")
	}
	for name, d := range map[string]time.Duration{
		"ready-timeout": c.ReadyTimeout, "settle": c.Settle, "settle-max": c.SettleMax, "hold-max": c.HoldMax,
		"stop-timeout": c.StopTimeout, "drain-timeout": c.DrainTimeout, "swap timeout": c.SwapTimeout, "graceful-timeout": c.Insist, "linger-timeout": c.Linger, "watchdog": c.Watchdog, "longest retry interval": c.RetryLongest, "probation": c.Probation, "health-timeout": c.HealthTimeout, "canary-step": c.Canary.Step, "retry-interval": c.RetryInterval,
	} {
		if d < 0 {
			return usage("%s must not be negative", name)
		}
	}
	if c.HealthTimeout == 0 {
		c.HealthTimeout = 5 * time.Second
	}
	if err := c.checkBeside(); err != nil {
		return err
	}
	if c.Adopt != nil && c.Memory != nil {
		return usage("a server that runs already cannot be given shared memory")
	}
	if err := c.Memory.check(c); err != nil {
		return err
	}
	if err := c.Outsiders.check(c); err != nil {
		return err
	}
	if c.Strategy == "" {
		c.Strategy = Overlap
	}
	if c.StoreMax < 0 {
		return usage("store-max must not be negative")
	}
	if err := c.checkProxies(); err != nil {
		return err
	}
	if c.ReadyTimeout == 0 {
		return usage("ready-timeout must be more than nothing")
	}
	if c.Ready.Kind == ready.Listen && (c.Intercept == InterceptOff || c.Intercept == InterceptAuto && len(c.Listen) > 0) {
		return usage("ready listen is the listen(2) of a server that binds by itself: claim no address, or set intercept to on")
	}
	if err := c.checkNumbers(); err != nil {
		return err
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = c.StopTimeout
	}
	if c.SwapTimeout == 0 {
		c.SwapTimeout = c.DrainTimeout
	}
	if c.SettleMax < c.Settle {
		c.SettleMax = c.Settle
	}
	if c.Stdin == nil {
		c.Stdin = os.Stdin
	}
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	if c.Stderrs == nil {
		c.Stderrs = os.Stderr
	}
	return nil
}

// checkBeside refuses what needs two generations at once where there may not be.
func (c *Config) checkBeside() error {
	exclusive := c.Strategy == Exclusive || c.Memory != nil
	switch {
	case c.Warm && exclusive:
		return usage("warm needs the overlap strategy: the predecessor keeps running")
	case c.Warm && c.Probation == 0:
		return usage("warm needs a probation: the predecessor is kept until that ends")
	case len(c.Proxies) > 0 && c.Warm:
		return usage("warm does not go with proxy: a client's connection has one server at a time, and is moved to the successor")
	case len(c.Canary.Steps) > 0 && (exclusive || len(c.Proxies) > 0):
		return errCanary
	}
	return nil
}

// errCanary refuses a canary of an exclusive service, and of one behind a proxy.
var errCanary = usage("a canary needs the overlap strategy, and no proxy: it runs beside its predecessor, and takes a share of new connections")

// checkNumbers refuses descriptor numbers that cannot be.
func (c *Config) checkNumbers() error {
	taken := map[int]bool{}
	for i, n := range c.Numbers {
		switch {
		case i < 0 || i >= len(c.Listen):
			return usage("a descriptor number for an address that is not there")
		case n < 0:
			return usage("%s: a descriptor number must not be negative", c.Listen[i])
		case taken[n]:
			return usage("descriptor %d can only be one address's", n)
		}
		taken[n] = true
	}
	return nil
}
