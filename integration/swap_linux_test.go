package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/upgrader/upgrader/integration/load"
)

// amount scales a count of a load test: the environment's if it says, a tenth
// in short runs.
func amount(variable string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil && n > 0 {
		return n
	}
	if testing.Short() {
		return max(2, usual/10)
	}
	return usual
}

// startLoad begins to ask; the test's end stops it in any case.
func startLoad(t *testing.T, c load.Config) *load.Load {
	t.Helper()
	l, err := load.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

// lossless stops a load and wants every request answered, by nobody older than
// it had to be.
func lossless(t *testing.T, what string, l *load.Load) load.Result {
	t.Helper()
	r := l.Stop()
	t.Logf("%s: %v", what, r)
	if r.Failed() != 0 || r.Misrouted != 0 {
		t.Errorf("%s: %d requests failed, %d were misrouted", what, r.Failed(), r.Misrouted)
	}
	if r.Outcomes[load.OK] == 0 {
		t.Errorf("%s: nothing was answered", what)
	}
	return r
}

// awaitMore waits until n more requests were answered.
func awaitMore(t *testing.T, l *load.Load, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	if err := l.AwaitMore(ctx, n); err != nil {
		t.Fatalf("%d more answers: %v: %v", n, err, l.Now())
	}
}

// awaitGeneration waits until that generation has answered a request.
func awaitGeneration(t *testing.T, l *load.Load, generation int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.Await(ctx, func(r load.Result) bool { return r.Generations[generation] > 0 }); err != nil {
		t.Fatalf("an answer of generation %d: %v: %v", generation, err, l.Now())
	}
}

// swapUnder swaps so many times while l asks, at least perSwap requests each.
// Every generation must have answered.
func (u *upgrader) swapUnder(l *load.Load, swaps, perSwap int) {
	u.t.Helper()
	for range swaps {
		generation := u.swap()
		awaitGeneration(u.t, l, generation)
		awaitMore(u.t, l, perSwap)
	}
}

// The promise itself: a hundred swaps of the commonest kind of server, and of
// hundreds of thousands of requests none is lost and none misrouted. In a container: TestContainerUnderLoad.
func TestGoServer(t *testing.T) {
	for _, c := range []struct {
		name    string
		user    int
		clients int
	}{
		{"200 clients", 0, 200},
		{"8 clients", 0, 8},
		{"200 clients, no privileges", nobody, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			swaps, requests := amount("INTEGRATION_SWAPS", 100), amount("INTEGRATION_REQUESTS", 300_000)
			a := address(t)
			u := start(t, options{
				user:    c.user,
				flags:   []string{"--listen", a, "--drain-max", "100"},
				command: []string{guestBinary(), "-http", "env"},
			})
			u.awaitServing()
			u.swap() // from the first commit on, what ran before is held open for a rollback
			u.mustRest()
			u.mustNotLeakDescriptors(func() {
				l := startLoad(t, load.Config{Address: a, Clients: c.clients, PerConnection: 1})
				u.swapUnder(l, swaps, requests/swaps)
				if r := lossless(t, fmt.Sprintf("%d swaps", swaps), l); r.Outcomes[load.OK] < requests {
					t.Errorf("%d requests, want %d", r.Outcomes[load.OK], requests)
				}
			})
			u.mustCleanShutdown()
		})
	}
}

// The same for every way in which a server may get its sockets, for whoever
// runs it, and for servers that behave badly.
func TestGoServerWays(t *testing.T) {
	for _, c := range []struct {
		name  string
		user  int
		own   bool     // the server binds by itself
		flags []string // of the upgrader
		guest []string
		path  string
		load  load.Config
	}{
		{name: "kept connections", load: load.Config{Clients: 32}},
		{name: "by the clock", load: load.Config{Clients: 32, PerConnection: 1, Rate: 1000}},
		{name: "own bind", own: true, load: load.Config{Clients: 50, PerConnection: 1}},
		{name: "own bind, no privileges", own: true, user: nobody, load: load.Config{Clients: 50, PerConnection: 1}},
		{name: "dies on the spot", guest: []string{"-die-at-term"}, load: load.Config{Clients: 50, PerConnection: 1}},
		{name: "slow answers, dies on the spot", guest: []string{"-die-at-term"}, path: "/?sleep=100ms", load: load.Config{Clients: 20, PerConnection: 1}},
		{name: "slow to start", guest: []string{"-warm-up", "300ms"}, load: load.Config{Clients: 50, PerConnection: 1}},
		{name: "slow to accept", guest: []string{"-ready-delay", "300ms"}, load: load.Config{Clients: 50, PerConnection: 1}},
		{name: "own bind, slow to accept", own: true, guest: []string{"-ready-delay", "300ms"}, flags: []string{"--ready", "accept"}, load: load.Config{Clients: 50, PerConnection: 1}},
		{name: "says READY=1", guest: []string{"-notify", "-ready-delay", "200ms"}, flags: []string{"--ready", "notify"}, load: load.Config{Clients: 50, PerConnection: 1}},
		{name: "server-starter", guest: []string{"-dialect", "server-starter"}, load: load.Config{Clients: 20, PerConnection: 1}},
		{name: "workers", guest: []string{"-fork", "2"}, load: load.Config{Clients: 50, PerConnection: 1}},
		{name: "own bind, many messages", own: true, guest: []string{"-flood-stderr", "2000"}, load: load.Config{Clients: 20, PerConnection: 1}},
		{name: "no stdin", own: true, guest: []string{"-close-stdin"}, load: load.Config{Clients: 20, PerConnection: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			swaps := amount("INTEGRATION_SWAPS", 6)
			a := address(t)
			o := options{user: c.user, flags: append([]string{"--listen", a}, c.flags...), command: []string{guestBinary(), "-http", "env"}}
			if c.own {
				o.flags, o.command = c.flags, []string{guestBinary(), "-http", a}
			}
			o.command = append(o.command, c.guest...)
			u := start(t, o)
			u.awaitServing()
			c.load.Address, c.load.Path = a, c.path
			l := startLoad(t, c.load)
			u.swapUnder(l, swaps, 100)
			r := lossless(t, fmt.Sprintf("%d swaps", swaps), l)
			if c.load.PerConnection == 0 && r.Stale > c.load.Clients*swaps {
				t.Errorf("%d connections were found closed, %d swaps of %d clients do not explain that", r.Stale, swaps, c.load.Clients)
			}
			u.awaitAlone()
			want := 0
			if len(c.guest) > 0 && c.guest[0] == "-die-at-term" {
				want = 128 + int(syscall.SIGTERM)
			}
			u.mustShutdown(want)
		})
	}
}

// Sessions of clients that never leave are served until the deadline of their
// generation; new ones go to the successor meanwhile.
func TestLineSessions(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--listen", a, "--stop-timeout", "2m", "--drain-max", "100"},
		command: []string{guestBinary(), "-lines", "env", "-drain", "-1s"},
	})
	u.awaitServing()
	short := startLoad(t, load.Config{Protocol: load.Lines, Address: a, Clients: 16, PerConnection: 20, Rate: 2000})
	// These stay with generation 1 over every swap, and are never cut.
	long := startLoad(t, load.Config{Protocol: load.Lines, Address: a, Clients: 4, Rate: 100})
	awaitMore(t, long, 20)
	u.swapUnder(short, amount("INTEGRATION_SWAPS", 10), 100)
	awaitMore(t, long, 20)
	lossless(t, "short sessions", short)
	if r := lossless(t, "sessions that stay", long); len(r.Generations) != 1 || r.Generations[1] == 0 || r.Connections != 4 {
		t.Errorf("the sessions did not stay with generation 1: %v", r.Generations)
	}
	u.awaitAlone()
	u.mustCleanShutdown()
}

// Datagrams go to the generation that serves, whichever way its socket came.
func TestUDP(t *testing.T) {
	for _, c := range []struct {
		name string
		own  bool
		load load.Config
	}{
		{name: "claimed", load: load.Config{Clients: 16}},
		{name: "claimed, new sockets", load: load.Config{Clients: 16, PerConnection: 1}},
		{name: "own bind", own: true, load: load.Config{Clients: 16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := address(t)
			o := options{flags: []string{"--listen", "udp://" + a, "--ready", "notify"}, command: []string{guestBinary(), "-udp", "env", "-notify"}}
			if c.own {
				o.flags, o.command = []string{"--ready", "notify"}, []string{guestBinary(), "-udp", a, "-notify"}
			}
			u := start(t, o)
			u.awaitServing()
			c.load.Protocol, c.load.Address, c.load.Rate = load.UDP, a, 2000
			l := startLoad(t, c.load)
			swaps := amount("INTEGRATION_SWAPS", 50)
			u.swapUnder(l, swaps, 100)
			// A datagram may be lost with its process; more than a few a swap are not.
			if r := lossless(t, fmt.Sprintf("%d swaps", swaps), l); r.Resent > 2*swaps {
				t.Errorf("%d datagrams were sent again in %d swaps", r.Resent, swaps)
			}
			u.awaitAlone()
			u.mustCleanShutdown()
		})
	}
}

// The path of a datagram socket leads to the generation that serves, and outlives the upgrader.
func TestUnixgram(t *testing.T) {
	s := newScratch(t, 0)
	path := s.path("public.sock")
	u := start(t, options{scratch: s, flags: []string{"--listen", "log=unixgram://" + path + "?mode=0622"}, command: []string{guestBinary(), "-udp", "env:log"}})
	u.awaitServing()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o622 {
		t.Errorf("the path: %v, %v", info, err)
	}
	var named atomic.Int64
	dial := func(context.Context, string, string) (net.Conn, error) { // with a name of its own, or it could not be answered
		name := fmt.Sprintf("@%s-%d", s.dir, named.Add(1))
		return net.DialUnix("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"}, &net.UnixAddr{Name: path, Net: "unixgram"})
	}
	l := startLoad(t, load.Config{Protocol: load.UDP, Address: path, Dial: dial, Clients: 16, PerConnection: 1, Rate: 1000, Resend: time.Minute, Timeout: patience})
	swaps := amount("INTEGRATION_SWAPS", 6)
	u.swapUnder(l, swaps, 100)
	u.kill() // the server goes on, and another upgrader takes it over
	awaitMore(t, l, 100)
	u = u.again()
	u.awaitServing()
	u.swapUnder(l, 2, 100)
	if r := lossless(t, fmt.Sprintf("%d swaps", swaps), l); r.Resent != 0 {
		t.Errorf("%d datagrams were lost", r.Resent)
	}
	u.awaitAlone()
	u.mustCleanShutdown()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the path is left")
	}
}

// The path of a unix socket leads to the generation that serves, and outlives
// a server that unlinks it.
func TestUnix(t *testing.T) {
	for _, c := range []struct {
		name  string
		guest []string
		load  load.Config
	}{
		{name: "http", guest: []string{"-http", "env"}, load: load.Config{PerConnection: 1}},
		{name: "the server unlinks the path", guest: []string{"-http", "env", "-unlink"}, load: load.Config{PerConnection: 1}},
		{name: "lines", guest: []string{"-lines", "env"}, load: load.Config{Protocol: load.Lines, PerConnection: 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScratch(t, 0)
			path := s.path("public.sock")
			u := start(t, options{scratch: s, flags: []string{"--listen", "unix://" + path}, command: append([]string{guestBinary()}, c.guest...)})
			u.awaitServing()
			c.load.Network, c.load.Address, c.load.Clients = "unix", path, 20
			l := startLoad(t, c.load)
			swaps := amount("INTEGRATION_SWAPS", 50)
			u.swapUnder(l, swaps, 200)
			lossless(t, fmt.Sprintf("%d swaps", swaps), l)
			u.awaitAlone()
			u.mustCleanShutdown()
			if c, err := net.Dial("unix", path); err == nil {
				_ = c.Close() // it should not be there
				t.Error("somebody answers at the path after the stop")
			}
		})
	}
}

// Several addresses of one service, by name: each server role gets its own.
func TestManyAddresses(t *testing.T) {
	s := newScratch(t, 0)
	web, lines, path := address(t), address(t), s.path("u.sock")
	u := start(t, options{
		scratch: s,
		flags:   []string{"--listen", "web=" + web, "--listen", "lines=" + lines, "--listen", "local=unix://" + path},
		command: []string{guestBinary(), "-http", "env:local", "-lines", "env:lines", "-http", "env:web"},
	})
	u.awaitServing()
	loads := map[string]*load.Load{
		"web":   startLoad(t, load.Config{Address: web, Clients: 8, PerConnection: 1, Rate: 500}),
		"lines": startLoad(t, load.Config{Protocol: load.Lines, Address: lines, Clients: 8, PerConnection: 1, Rate: 500}),
		"local": startLoad(t, load.Config{Network: "unix", Address: path, Clients: 8, PerConnection: 1, Rate: 500}),
	}
	for range amount("INTEGRATION_SWAPS", 5) {
		generation := u.swap()
		for _, l := range loads {
			awaitGeneration(t, l, generation)
		}
	}
	for name, l := range loads {
		lossless(t, name, l)
	}
	u.awaitAlone()
	u.mustCleanShutdown()
}

// A swap can be asked for by signal as well.
func TestSignalsSwap(t *testing.T) {
	a := address(t)
	u := start(t, options{flags: []string{"--listen", a}, command: []string{guestBinary(), "-http", "env"}})
	u.awaitServing()
	l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1})
	for i, s := range []syscall.Signal{syscall.SIGUSR2, syscall.SIGHUP} {
		u.signal(s)
		u.await("generation after "+s.String(), func(r statusReport) error {
			if r.serving() != i+2 {
				return fmt.Errorf("generation %d serves", r.serving())
			}
			return nil
		})
		awaitGeneration(t, l, i+2)
	}
	lossless(t, "two swaps", l)
	u.awaitAlone()
	u.mustCleanShutdown()
}
