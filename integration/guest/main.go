package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options is what the flags say.
type options struct {
	http, lines, udp addresses
	dialect          string

	warmUp     time.Duration // before anything is bound
	readyDelay time.Duration // between listening and accepting
	noReady    bool          // never accepts, never says READY=1
	notify     bool
	beats      int           // WATCHDOG=1 is said so many times; <0: without end
	drain      time.Duration // line sessions live so long after TERM; <0: until the client ends them

	exitNow   bool
	exitAfter time.Duration
	exitCode  int
	hangAfter time.Duration
	dieAtTerm bool
	ignore    bool
	unlink    bool
	once      string

	flood      int
	closeStdin bool
	daemonise  bool
	pidFile    string
	fork       int
	mapped     string
	worker     bool

	say, to string // the messenger: one datagram to a notify socket, then exit
}

// addresses collects a flag that may be given more than once.
type addresses []string

func (a *addresses) String() string     { return strings.Join(*a, ",") }
func (a *addresses) Set(s string) error { *a = append(*a, s); return nil }

func main() {
	if filepath.Base(os.Args[0]) == pluginLoader {
		os.Exit(asPluginLoader(os.Args))
	}
	o := options{}
	f := flag.NewFlagSet("guest", flag.ExitOnError)
	f.Var(&o.http, "http", "serve HTTP on `ADDR`; repeatable")
	f.Var(&o.lines, "lines", "echo lines on `ADDR`; repeatable")
	f.Var(&o.udp, "udp", "echo datagrams on `ADDR`; repeatable")
	f.StringVar(&o.dialect, "dialect", "systemd", "where env addresses come from: systemd, server-starter, einhorn, nginx, listen-fd")
	f.DurationVar(&o.warmUp, "warm-up", 0, "time before anything is bound")
	f.DurationVar(&o.readyDelay, "ready-delay", 0, "time between listening and accepting")
	f.BoolVar(&o.noReady, "no-ready", false, "listen, but never accept and never say READY=1")
	f.BoolVar(&o.notify, "notify", false, "say READY=1 when serving and STOPPING=1 when leaving")
	f.IntVar(&o.beats, "beats", 0, "say WATCHDOG=1 so many times, twice as often as WATCHDOG_USEC asks; negative: without end")
	f.DurationVar(&o.drain, "drain", 2*time.Second, "how long established line sessions are served after TERM; negative: until their clients end them")
	f.BoolVar(&o.exitNow, "exit-now", false, "exit at once with -exit-code")
	f.StringVar(&o.once, "once", "", "-exit-now counts only for who makes `FILE`")
	f.DurationVar(&o.exitAfter, "exit-after", 0, "exit so long after the start, with -exit-code")
	f.DurationVar(&o.hangAfter, "hang-after", 0, "stand still so long after the start, as if stuck (SIGSTOP)")
	f.IntVar(&o.exitCode, "exit-code", 0, "status of every exit of its own")
	f.BoolVar(&o.dieAtTerm, "die-at-term", false, "die of TERM on the spot, with all that is in hand")
	f.BoolVar(&o.ignore, "ignore-term", false, "ignore TERM, INT and HUP")
	f.BoolVar(&o.unlink, "unlink", false, "unlink the path of a unix socket when leaving")
	f.IntVar(&o.flood, "flood-stderr", 0, "write so many `lines` to stderr before serving")
	f.BoolVar(&o.closeStdin, "close-stdin", false, "close descriptor 0 first, so that the next one gets its number")
	f.BoolVar(&o.daemonise, "daemonise", false, "serve in a grandchild with its own session; the first process exits 0")
	f.StringVar(&o.pidFile, "pid-file", "", "write the pid to `FILE` when serving")
	f.StringVar(&o.mapped, "map", "", "map `FILE` first of all, and write to its first and last byte")
	f.IntVar(&o.fork, "fork", 0, "serve in so many child processes that share the sockets")
	f.BoolVar(&o.worker, "worker", false, "what -fork starts")
	f.StringVar(&o.say, "say", "", "send this `MESSAGE` to the notify socket -to, then exit")
	f.StringVar(&o.to, "to", os.Getenv("NOTIFY_SOCKET"), "the notify socket of -say")
	more := f.String("flags-file", "", "read more flags from `FILE`, if it exists: a way to change what the next generation does")
	_ = f.Parse(os.Args[1:]) // exits by itself
	if *more != "" {
		if text, err := os.ReadFile(*more); err == nil {
			_ = f.Parse(strings.Fields(string(text)))
		}
	}
	if err := run(o); err != nil {
		fmt.Fprintf(os.Stderr, "guest: %v\n", err)
		os.Exit(1)
	}
	os.Exit(o.exitCode)
}

// first reports whether this is the first process to come here with path; ""
// counts for all.
func first(path string) bool {
	if path == "" {
		return true
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	_ = f.Close() // it stays empty
	return true
}

// run is the life of the guest. It may also exit by itself.
func run(o options) error {
	if o.say != "" {
		return say(o.to, o.say)
	}
	if o.exitNow && first(o.once) {
		fmt.Fprintf(os.Stderr, "guest: leaving at once with %d\n", o.exitCode)
		os.Exit(o.exitCode)
	}
	if o.daemonise {
		if done, err := daemonise(); done || err != nil {
			return err
		}
	}
	if o.closeStdin {
		_ = os.Stdin.Close() // it is the point that nothing is there any more
	}
	for i := range o.flood {
		fmt.Fprintf(os.Stderr, "guest: flood line %d of %d %s\n", i+1, o.flood, strings.Repeat("x", 100))
	}
	if o.mapped != "" {
		if err := mapFile(o.mapped); err != nil {
			return err
		}
	}
	ctx := context.Background()
	switch {
	case o.ignore:
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	case !o.dieAtTerm:
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
		defer stop()
	}
	if o.exitAfter > 0 {
		time.AfterFunc(o.exitAfter, func() {
			fmt.Fprintf(os.Stderr, "guest: leaving after %v with %d\n", o.exitAfter, o.exitCode)
			os.Exit(o.exitCode)
		})
	}
	if o.hangAfter > 0 {
		time.AfterFunc(o.hangAfter, hang)
	}
	if o.fork > 0 && !o.worker {
		return serveInChildren(ctx, o)
	}
	return serve(ctx, o)
}

// serve binds, serves and leaves in this process.
func serve(ctx context.Context, o options) error {
	sleep(ctx, o.warmUp)
	sockets, err := newSockets(o.dialect)
	if err != nil {
		return err
	}
	var roles []func(context.Context) error
	for _, a := range o.http {
		l, err := sockets.listen(a, o.unlink)
		if err != nil {
			return err
		}
		roles = append(roles, func(ctx context.Context) error { return serveHTTP(ctx, l, o.exitCode) })
	}
	for _, a := range o.lines {
		l, err := sockets.listen(a, o.unlink)
		if err != nil {
			return err
		}
		roles = append(roles, func(ctx context.Context) error { return serveLines(ctx, l, o.drain) })
	}
	for _, a := range o.udp {
		c, err := sockets.listenPacket(a)
		if err != nil {
			return err
		}
		roles = append(roles, func(ctx context.Context) error { return serveUDP(ctx, c) })
	}
	sleep(ctx, o.readyDelay)
	if o.noReady {
		fmt.Fprintln(os.Stderr, "guest: never ready")
		idle(ctx)
		return nil
	}

	errs := make(chan error, len(roles))
	var all sync.WaitGroup
	for _, r := range roles {
		all.Go(func() { errs <- r(ctx) })
	}
	if o.pidFile != "" {
		if err := writePid(o.pidFile); err != nil {
			return err
		}
	}
	if o.notify {
		if err := say(o.to, "READY=1\nSTATUS=serving as "+identity()); err != nil {
			return err
		}
	}
	if o.beats != 0 {
		go beat(ctx, o)
	}
	fmt.Fprintf(os.Stderr, "guest: serving as %s\n", identity())
	if len(roles) == 0 {
		idle(ctx)
	}
	all.Wait()
	if o.notify {
		_ = say(o.to, "STOPPING=1") // nobody may be left to hear it
	}
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// identity is what every reply carries.
func identity() string {
	return fmt.Sprintf("gen=%s pid=%d", generation(), os.Getpid())
}

func generation() string {
	if g := os.Getenv("UPGRADER_GENERATION"); g != "" {
		return g
	}
	return "0"
}

// sleep waits for d, or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// idle waits for the end of ctx, if it has one. To wait for nothing at all would
// be a deadlock to the runtime.
func idle(ctx context.Context) { sleep(ctx, math.MaxInt64) }

func writePid(path string) error {
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(temporary, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
