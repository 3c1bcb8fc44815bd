package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Exit statuses of the upgrader itself.
const (
	exitUsage         = 100
	exitSystem        = 111
	exitNotExecutable = 126
	exitNotFound      = 127
)

// What cannot be done is said at once: an exit status that scripts can tell
// apart, and one message that names the thing.
func TestBadInput(t *testing.T) {
	s := newScratch(t, 0)
	guest := guestBinary()
	file := s.write(t, "file", "not a program\n", 0o644)
	garbage := s.write(t, "garbage", "\x00\x01\x02 no program either\n", 0o755)
	orphan := s.write(t, "orphan", "#!/no/such/interpreter\n", 0o755)
	a := address(t)
	long := "unix://" + s.path(strings.Repeat("x", 200))
	held := s.path("held.sock")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: held, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }() // nobody sends anything
	serve := []string{"--", guest, "-http", "env"}
	with := func(flags ...string) []string { return append(flags, serve...) }
	for _, c := range []struct {
		name      string
		arguments []string
		codes     []int
		says      []string // all of them, in stderr
	}{
		{"nothing", nil, []int{exitUsage}, []string{"--"}},
		{"no command", []string{"--listen", a, "--"}, []int{exitUsage}, []string{"command"}},
		{"no --", []string{guest}, []int{exitUsage}, []string{"--"}},
		{"unknown flag", with("--no-such-flag"), []int{exitUsage}, []string{"no-such-flag"}},
		{"unknown client command", []string{"restrat"}, []int{exitUsage}, []string{"restrat"}},
		{"flag without a value", []string{"--listen"}, []int{exitUsage}, []string{"listen"}},
		{"no duration", with("--ready-timeout", "soon"), []int{exitUsage}, []string{"soon", "ready-timeout"}},
		{"negative duration", with("--stop-timeout", "-3s"), []int{exitUsage}, []string{"stop-timeout"}},
		{"no strategy", with("--strategy", "hope"), []int{exitUsage}, []string{"hope"}},
		{"no signal", with("--stop-signal", "SIGNOPE"), []int{exitUsage}, []string{"SIGNOPE"}},
		{"no dialect", with("--dialect", "klingon"), []int{exitUsage}, []string{"klingon"}},
		{"no probe", with("--ready", "someday"), []int{exitUsage}, []string{"someday"}},
		{"a listen that nobody sees", with("--listen", a, "--ready", "listen"), []int{exitUsage}, []string{"ready listen", "intercept"}},
		{"no health check", with("--health", "notify"), []int{exitUsage}, []string{"health", "notify"}},
		{"no time for a health check", with("--health-timeout", "0"), []int{exitUsage}, []string{"health-timeout"}},
		{"no shares", with("--canary", "most"), []int{exitUsage}, []string{"canary", "most"}},
		{"shares that shrink", with("--canary", "50%,5%"), []int{exitUsage}, []string{"canary", "5%"}},
		{"no step", with("--canary", "5%", "--canary-step", "0"), []int{exitUsage}, []string{"canary-step"}},
		{"canary without its predecessor", with("--canary", "5%", "--strategy", "exclusive"), []int{exitUsage}, []string{"canary", "overlap"}},
		{"warm without its predecessor", with("--warm", "--strategy", "exclusive"), []int{exitUsage}, []string{"warm", "overlap"}},
		{"warm without probation", with("--warm", "--probation", "0"), []int{exitUsage}, []string{"warm", "probation"}},
		{"adopt nobody", []string{"adopt"}, []int{exitUsage}, []string{"pid"}},
		{"adopt two", []string{"adopt", "1234", "1235"}, []int{exitUsage}, []string{"pid"}},
		{"adopt the first process", []string{"adopt", "1"}, []int{exitUsage}, []string{"process 1"}},
		{"no restart policy", with("--restart", "maybe"), []int{exitUsage}, []string{"maybe"}},
		{"no address", with("--listen", "what-is-this"), []int{exitUsage}, []string{"what-is-this"}},
		{"empty address", with("--listen", ""), []int{exitUsage}, []string{"--listen", "empty"}},
		{"no address of the API", with("--http", "nowhere"), []int{exitUsage}, []string{"--http nowhere", "HOST:PORT"}},
		{"API for everybody", with("--http", "0.0.0.0:"+strconv.Itoa(port(t))), []int{exitUsage}, []string{"--http-token-file"}},
		{"no port", with("--listen", "127.0.0.1:70000"), []int{exitUsage}, []string{"70000"}},
		{"no network", with("--listen", "sctp://127.0.0.1:5000"), []int{exitUsage}, []string{"sctp"}},
		{"an address of somebody else", with("--listen", "192.0.2.7:5000"), []int{exitSystem}, []string{"192.0.2.7:5000"}},
		{"the same address twice", with("--listen", a, "--listen", a), []int{exitUsage, exitSystem}, []string{a}},
		{"path too long", with("--listen", long), []int{exitUsage, exitSystem}, []string{"xxxx"}},
		{"path in no folder", with("--listen", "unix://"+s.path("none/u.sock")), []int{exitSystem}, []string{s.path("none/u.sock")}},
		{"path of a file", with("--listen", "unix://"+file), []int{exitSystem}, []string{file}},
		{"datagram path too long", with("--listen", "unixgram://"+s.path(strings.Repeat("x", 200))), []int{exitUsage}, []string{"xxxx", "bytes long"}},
		{"datagram path of a file", with("--listen", "unixgram://"+file), []int{exitSystem}, []string{file}},
		{"datagram path of a living server", with("--listen", "unixgram://"+held), []int{exitSystem}, []string{held, "held by"}},
		{"stream path of a living datagram server", with("--listen", "unix://"+held), []int{exitSystem}, []string{held, "held by"}},
		{"queue of datagrams", with("--listen", "unixgram:///a?backlog=5"), []int{exitUsage}, []string{"backlog"}},
		{"proxy of a datagram path", with("--proxy", "unixgram:///a="+a), []int{exitUsage}, []string{"datagrams"}},
		{"no proxy", with("--proxy", a), []int{exitUsage}, []string{a, "PUBLIC=BACKEND"}},
		{"no backend", with("--proxy", a+"=what-is-this"), []int{exitUsage}, []string{"what-is-this"}},
		{"no proxy policy", with("--proxy", a+"=intercepted?policy=hope"), []int{exitUsage}, []string{"hope", "http1"}},
		{"no proxy option", with("--proxy", a+"=intercepted?colour=red"), []int{exitUsage}, []string{"colour", "policy"}},
		{"proxy of datagrams", with("--proxy", "udp://"+a+"=intercepted"), []int{exitUsage}, []string{"datagrams"}},
		{"proxy of an address of somebody else", with("--proxy", "192.0.2.7:5000=intercepted"), []int{exitSystem}, []string{"192.0.2.7:5000"}},
		{"proxy options without a proxy", with("--proxy-idle", "5m"), []int{exitUsage}, []string{"proxy-idle"}},
		{"proxy of what is not taken over", with("--proxy", a+"=intercepted", "--intercept", "off"), []int{exitUsage}, []string{"intercept"}},
		{"proxy of two generations at one address", with("--proxy", a+"=127.0.0.1:5000", "--intercept", "off"), []int{exitUsage}, []string{"5000", "exclusive"}},
		{"no store", with("--store-max", "-1"), []int{exitUsage}, []string{"store-max"}},
		{"no user", with("--user", "no-such-user"), []int{exitUsage, exitSystem}, []string{"no-such-user"}},
		{"no folder", with("--dir", s.path("none")), []int{exitUsage, exitSystem}, []string{s.path("none")}},
		{"no environment file", with("--env-file", s.path("none")), []int{exitUsage, exitSystem}, []string{s.path("none")}},
		{"pid file cannot be written", with("--pid-file", file+"/pid"), []int{exitSystem}, []string{file + "/pid"}},
		{"status file cannot be written", with("--status-file", file+"/status"), []int{exitSystem}, []string{file + "/status"}},
		{"not found", []string{"--", s.path("none"), "x"}, []int{exitNotFound}, []string{s.path("none")}},
		{"not found in PATH", []string{"--", "no-such-command-anywhere"}, []int{exitNotFound}, []string{"no-such-command-anywhere"}},
		{"not executable", []string{"--", file}, []int{exitNotExecutable}, []string{file}},
		{"a folder", []string{"--", s.dir}, []int{exitNotExecutable}, []string{s.dir}},
		{"no format that runs", []string{"--", garbage}, []int{exitNotExecutable}, []string{garbage}},
		{"no interpreter", []string{"--", orphan}, []int{exitNotExecutable, exitNotFound}, []string{orphan}},
	} {
		t.Run(c.name, func(t *testing.T) {
			state := s.path("state-" + strings.Map(func(r rune) rune {
				if r == ' ' || r == '-' {
					return '-'
				}
				return r
			}, c.name))
			mustRefuse(t, s, c.codes, c.says, append([]string{}, c.arguments...), "UPGRADER_STATE_DIR="+state)
			if text, err := os.ReadFile(file); err != nil || string(text) != "not a program\n" {
				t.Errorf("the file was touched: %q, %v", text, err)
			}
		})
	}
	t.Run("state dir cannot be made", func(t *testing.T) {
		mustRefuse(t, s, []int{exitSystem}, []string{file}, append([]string{"--state-dir", file + "/state"}, serve...))
	})
	t.Run("flag from the environment", func(t *testing.T) {
		mustRefuse(t, s, []int{exitUsage}, []string{"hope"}, serve, "UPGRADER_STRATEGY=hope")
	})
	if left := strays(); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
		killAll(left)
	}
}

// mustRefuse wants the upgrader to end with one of codes and say so.
func mustRefuse(t *testing.T, s *scratch, codes []int, says, arguments []string, env ...string) {
	t.Helper()
	stdout, stderr, code := run(t, runOptions{dir: s.dir, env: env}, arguments...)
	if !slices.Contains(codes, code) {
		t.Errorf("exit status %d, want one of %v\nstderr: %s", code, codes, stderr)
	}
	for _, word := range says {
		if !strings.Contains(stderr, word) {
			t.Errorf("stderr does not say %q: %s", word, stderr)
		}
	}
	if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "panic:") {
		t.Errorf("it crashed: %s", stderr)
	}
	if stdout != "" {
		t.Errorf("stdout is not for complaints: %s", stdout)
	}
}

// startGuest runs a server that no upgrader knows of.
func startGuest(t *testing.T, network, address string, flags ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(guestBinary(), flags...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	nowLiving(c.Process.Pid, "a guest of "+t.Name())
	t.Cleanup(func() {
		_ = c.Process.Kill() // it may be gone already
		_ = c.Wait()         // killed
		noLongerLiving(c.Process.Pid)
	})
	eventually(t, "the guest serves", func() error {
		conn, err := net.Dial(network, address)
		if err == nil {
			_ = conn.Close() // only its being there was asked
		}
		return err
	})
	return c
}

func TestAddressInUse(t *testing.T) {
	s := newScratch(t, 0)
	a, path := address(t), s.path("held.sock")
	holder := startGuest(t, "tcp", a, "-http", a)
	startGuest(t, "unix", path, "-http", "unix:"+path)
	for _, c := range []struct {
		name      string
		arguments []string
		says      []string
	}{
		{"claimed", []string{"--listen", a, "--", guestBinary(), "-http", "env"}, []string{a, "guest", fmt.Sprint(holder.Process.Pid)}},
		{"unix", []string{"--listen", "unix://" + path, "--", guestBinary(), "-http", "env"}, []string{path}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mustRefuse(t, s, []int{exitSystem}, c.says, append([]string{"--state-dir", s.path("state")}, c.arguments...))
		})
	}
	t.Run("own bind", func(t *testing.T) {
		// The server is told what the kernel would have told it, and complains by itself.
		stdout, stderr, code := run(t, runOptions{dir: s.dir}, "--state-dir", s.path("state"), "--retry-max", "0", "--", guestBinary(), "-http", a)
		if code != 1 || !strings.Contains(stderr, "address already in use") {
			t.Errorf("exit status %d, want the server's own 1\nstdout: %s\nstderr: %s", code, stdout, stderr)
		}
	})
	for _, at := range [][2]string{{"tcp", a}, {"unix", path}} {
		conn, err := net.Dial(at[0], at[1])
		if err != nil {
			t.Errorf("who had %s first lost it: %v", at[1], err)
			continue
		}
		_ = conn.Close() // only its being there was asked
	}
}

// A socket file that nobody answers on is no obstacle.
func TestStaleUnixSocket(t *testing.T) {
	s := newScratch(t, 0)
	path := s.path("u.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close() // nobody came
	u := start(t, options{scratch: s, flags: []string{"--listen", "unix://" + path}, command: []string{guestBinary(), "-http", "env"}})
	u.awaitServing()
	u.swap()
	u.awaitAlone()
	u.mustCleanShutdown()
}

// Two upgraders do not share a state dir.
func TestStateDirInUse(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	u := start(t, options{scratch: s, flags: []string{"--listen", a}, command: []string{guestBinary(), "-http", "env"}})
	u.awaitServing()
	mustRefuse(t, s, []int{exitSystem}, []string{fmt.Sprint(u.pid())}, []string{"--state-dir", u.state, "--", guestBinary(), "-http", "env"})
	u.swap()
	u.awaitAlone()
	u.mustCleanShutdown()
}

// Client commands without anybody to talk to.
func TestNobodyRuns(t *testing.T) {
	s := newScratch(t, 0)
	for _, command := range []string{"status", "restart", "stop", "reload"} {
		t.Run(command, func(t *testing.T) {
			mustRefuse(t, s, []int{exitUsage, exitSystem}, []string{"no upgrader"}, []string{command, "--state-dir", s.path("none")})
		})
	}
}

// The upgrader ends as its server did.
func TestExitStatus(t *testing.T) {
	guest := guestBinary()
	for _, c := range []struct {
		name      string
		arguments []string
		want      int
	}{
		{"first start fails", []string{"--retry-max", "0", "--", guest, "-exit-now", "-exit-code", "7"}, 7},
		{"never restarted", []string{"--restart", "never", "--ready", "delay=10ms", "--", guest, "-exit-after", "500ms", "-exit-code", "5"}, 5},
		{"success is no failure", []string{"--restart", "on-failure", "--ready", "delay=10ms", "--", guest, "-exit-after", "500ms"}, 0},
		{"retries exhausted", []string{"--retry-max", "2", "--retry-interval", "10ms", "--", guest, "-exit-now", "-exit-code", "9"}, 9},
		{"a signal", []string{"--restart", "never", "--ready", "delay=10ms", "--", "/bin/sh", "-c", "sleep 0.5; kill -KILL $$"}, 137},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScratch(t, 0)
			_, stderr, code := run(t, runOptions{dir: s.dir}, append([]string{"--state-dir", s.path("state")}, c.arguments...)...)
			if code != c.want {
				t.Errorf("exit status %d, want %d\nstderr: %s", code, c.want, stderr)
			}
			eventually(t, "no process is left", func() error {
				if left := strays(); len(left) > 0 {
					return fmt.Errorf("%v", left)
				}
				return nil
			})
		})
	}
}
