package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// session is one client that asks when it is told to.
type session struct {
	net.Conn
	in *bufio.Reader
}

func connect(t *testing.T, network, address string) *session {
	t.Helper()
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(4 * patience)); err != nil {
		t.Fatal(err)
	}
	return &session{c, bufio.NewReader(c)}
}

func connectMany(t *testing.T, address string, n int) []*session {
	t.Helper()
	var all []*session
	for range n {
		all = append(all, connect(t, "tcp", address))
	}
	return all
}

// ask says text and gives the generation that answered.
func (s *session) ask(text string) (generation int, err error) {
	if _, err := fmt.Fprintf(s, "%s\n", text); err != nil {
		return 0, err
	}
	return s.answer(text)
}

func (s *session) answer(text string) (generation int, err error) {
	line, err := s.in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	rest, ok := strings.CutPrefix(line, text+" gen=")
	if !ok {
		return 0, fmt.Errorf("%q was answered by %q", text, line)
	}
	number, _, _ := strings.Cut(rest, " ")
	return strconv.Atoi(strings.TrimSpace(number))
}

// mustAsk wants an answer of that generation.
func mustAsk(t *testing.T, all []*session, text string, generation int) {
	t.Helper()
	for i, s := range all {
		if got, err := s.ask(text); err != nil || got != generation {
			t.Fatalf("session %d: %q was answered by generation %d, %v, want %d", i, text, got, err, generation)
		}
	}
}

// awaitGenerationServing waits until that one serves.
func (u *upgrader) awaitGenerationServing(generation int) statusReport {
	u.t.Helper()
	return u.await(fmt.Sprintf("generation %d", generation), func(s statusReport) error {
		if s.serving() != generation {
			return fmt.Errorf("state %s, generation %d serves", s.State, s.serving())
		}
		return nil
	})
}

// awaitProxy waits until the proxy's counts satisfy check.
func (u *upgrader) awaitProxy(what string, check func(proxyReport) bool) proxyReport {
	u.t.Helper()
	return u.await(what, func(s statusReport) error {
		if len(s.Proxies) != 1 || !check(s.Proxies[0]) {
			return fmt.Errorf("%+v", s.Proxies)
		}
		return nil
	}).Proxies[0]
}

// Every way to a server, swapped with clients that stay.
func TestProxyWays(t *testing.T) {
	s := newScratch(t, 0)
	for _, c := range []struct {
		name  string
		flags func(public, backend string) []string
		lines func(public, backend string) string // what the server listens on
		unix  bool                                // both addresses
	}{
		{
			name:  "the server binds the backend",
			flags: func(p, b string) []string { return []string{"--proxy", p + "=" + b} },
			lines: func(_, b string) string { return b },
		},
		{
			name:  "the backend is claimed",
			flags: func(p, b string) []string { return []string{"--proxy", p + "=" + b, "--listen", b} },
			lines: func(_, _ string) string { return "env" },
		},
		{
			name: "nothing is taken over",
			flags: func(p, b string) []string {
				return []string{"--proxy", p + "=" + b, "--intercept", "off", "--strategy", "exclusive"}
			},
			lines: func(_, b string) string { return b },
		},
		{
			name: "unix, claimed", unix: true,
			flags: func(p, b string) []string { return []string{"--proxy", p + "?mode=0600=" + b, "--listen", b} },
			lines: func(_, _ string) string { return "env" },
		},
		{
			name: "unix, one after the other", unix: true,
			flags: func(p, b string) []string { return []string{"--proxy", p + "=" + b, "--strategy", "exclusive"} },
			lines: func(_, b string) string { return "unix:" + strings.TrimPrefix(b, "unix://") },
		},
		{
			name:  "intercepted, one after the other",
			flags: func(p, _ string) []string { return []string{"--proxy", p + "=intercepted", "--strategy", "exclusive"} },
			lines: func(p, _ string) string { return p },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			network, public, backend := "tcp", address(t), address(t)
			dial := public
			if c.unix {
				network, dial = "unix", s.path("p.sock")
				public, backend = "unix://"+dial, "unix://"+s.path("b.sock")
			}
			u := start(t, options{
				flags:   append(c.flags(public, backend), "--settle", "20ms", "--settle-max", "20s", "--probation", "0"),
				command: []string{guestBinary(), "-lines", c.lines(public, backend), "-drain", "0s"},
			})
			u.awaitServing()
			k := startTalkers(t, network, dial, 20, 50*time.Millisecond)
			k.awaitAll(1)
			swaps := amount("INTEGRATION_SWAPS", 5)
			for range swaps {
				u.swap()
			}
			k.awaitAll(swaps + 1)
			p := u.status().Proxies[0]
			k.unharmed(c.name)
			if p.InFlight != 0 || p.Reset != 0 {
				t.Errorf("the proxy counts %+v", p)
			}
			u.awaitAlone()
			u.mustCleanShutdown()
		})
	}
}

// A server that dies again and again takes no client with it that waits for
// nothing. One whose question it died of is reset, and counted.
func TestProxyFlapping(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--proxy", a + "=intercepted", "--probation", "0", "--retry-max", "100", "--retry-interval", "10ms"},
		command: []string{guestBinary(), "-lines", a},
	})
	u.awaitServing()
	all := connectMany(t, a, 50)
	mustAsk(t, all, "first", 1)
	const times = 5
	for n := range times {
		if err := syscall.Kill(u.status().server().Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		u.awaitGenerationServing(n + 2)
		mustAsk(t, all, "again", n+2)
	}
	if p := u.status().Proxies[0]; p.Resumed != len(all)*times || p.InFlight != 0 || p.Reset != 0 || p.Connections != len(all) {
		t.Errorf("the proxy counts %+v", p)
	}

	pid := u.status().server().Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(all[0], "lost\n"); err != nil {
		t.Fatal(err)
	}
	await := u.awaitProxy("the question is at the server", func(p proxyReport) bool { return p.Connections == len(all) && bytesUp(u) >= len(all)*(6+6*times)+5 })
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if generation, err := all[0].answer("lost"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client got an answer of generation %d, %v; want a reset", generation, err)
	}
	mustAsk(t, all[1:], "after", times+2)
	if p := u.status().Proxies[0]; p.InFlight != 1 || p.Reset != await.Reset+1 {
		t.Errorf("the proxy counts %+v", p)
	}
	u.mustCleanShutdown()
	for i, s := range all[1:] {
		if _, err := s.in.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("session %d ended with %v, its server with a clean end", i+1, err)
		}
	}
}

func bytesUp(u *upgrader) int { return u.status().Proxies[0].BytesUp }

// A swap that fails leaves every client where it was, or with the predecessor's
// own binary.
func TestProxyRollback(t *testing.T) {
	for _, strategy := range []string{"overlap", "exclusive"} {
		t.Run(strategy, func(t *testing.T) {
			s := newScratch(t, 0)
			a := address(t)
			u := start(t, options{
				scratch: s,
				flags:   []string{"--proxy", a + "=intercepted", "--strategy", strategy, "--probation", "0", "--settle", "20ms", "--settle-max", "20s"},
				command: []string{guestBinary(), "-lines", a, "-drain", "0s", "-flags-file", s.path("more")},
			})
			u.awaitServing()
			all := connectMany(t, a, 20)
			mustAsk(t, all, "first", 1)
			// Of the generations from now on the first one fails.
			s.write(t, "more", "-exit-now -exit-code 1 -once "+s.path("failed"), 0o644)
			if _, _, code := u.run("restart"); code != 1 {
				t.Errorf("restart exited %d, want 1: rolled back", code)
			}
			serving := u.awaitServing().serving()
			if want := map[string]int{"overlap": 1, "exclusive": 3}[strategy]; serving != want {
				t.Errorf("generation %d serves, want %d", serving, want)
			}
			mustAsk(t, all, "then", serving)
			u.swap()
			mustAsk(t, all, "at last", u.status().serving())
			if p := u.status().Proxies[0]; p.Connections != len(all) || p.InFlight != 0 || p.Reset != 0 {
				t.Errorf("the proxy counts %+v", p)
			}
			u.awaitAlone()
			u.mustShutdown(1) // what the guest was told to exit with
		})
	}
}

// A server that is slow to answer keeps its client until it has.
func TestProxySlow(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--proxy", a + "=intercepted", "--probation", "0", "--settle", "20ms", "--settle-max", "200ms", "--stop-timeout", "2m"},
		command: []string{guestBinary(), "-lines", a, "-drain", "-1s"},
	})
	u.awaitServing()
	all := connectMany(t, a, 2)
	mustAsk(t, all, "first", 1)
	first := u.status().server().Pid
	if err := syscall.Kill(first, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(all[0], "slow\n"); err != nil {
		t.Fatal(err)
	}
	u.awaitProxy("the question is at the server", func(proxyReport) bool { return bytesUp(u) == 17 })
	u.swap()
	u.awaitProxy("one stays", func(p proxyReport) bool { return p.Stayed >= 1 })
	if err := syscall.Kill(first, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if generation, err := all[0].answer("slow"); err != nil || generation != 1 {
		t.Errorf("the slow answer came from generation %d, %v", generation, err)
	}
	u.awaitProxy("both have moved", func(p proxyReport) bool { return p.Moved == 2 })
	mustAsk(t, all, "then", 2)
	if p := u.status().Proxies[0]; p.InFlight != 0 || p.Reset != 0 {
		t.Errorf("the proxy counts %+v", p)
	}
	u.awaitAlone()
	for _, s := range all {
		_ = s.Close() // the server waits for that
	}
	u.mustCleanShutdown()
}

// A server that does not come back: its clients are held for hold-max, and then
// refused until somebody serves.
func TestProxyDead(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	u := start(t, options{
		scratch: s,
		flags:   []string{"--proxy", a + "=intercepted", "--probation", "0", "--retry-max", "1000", "--retry-interval", "1s", "--hold-max", "300ms"},
		command: []string{guestBinary(), "-lines", a, "-flags-file", s.path("more")},
	})
	u.awaitServing()
	held := connect(t, "tcp", a)
	mustAsk(t, []*session{held}, "first", 1)
	s.write(t, "more", "-exit-now -exit-code 1", 0o644)
	if err := syscall.Kill(u.status().server().Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := held.in.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after hold-max the client has %v, want a reset", err)
	}
	if err := os.Remove(s.path("more")); err != nil {
		t.Fatal(err)
	}
	u.awaitServing()
	mustAsk(t, connectMany(t, a, 3), "again", u.status().serving())
	u.mustCleanShutdown()
}
