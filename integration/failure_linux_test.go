package integration

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/upgrader/upgrader/integration/load"
)

// mustRollBack asks for a swap that must fail without a trace for clients, and
// gives its verdict.
func (u *upgrader) mustRollBack() verdictReport {
	u.t.Helper()
	before := u.status().serving()
	stdout, stderr, code := u.run("restart")
	if code != 1 {
		u.t.Fatalf("restart exited %d, want 1\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	s := u.status()
	v := s.lastVerdict()
	if v.Verdict != "rolled-back" || v.Reason == "" {
		u.t.Errorf("the verdict is %+v", v)
	}
	if s.serving() != before {
		u.t.Errorf("generation %d serves, %d did before", s.serving(), before)
	}
	return v
}

// tooLate stands for the exit status of one that had to be killed: it has none.
const tooLate = -1

// A successor that fails is as if it had never been.
func TestFailedSuccessors(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  string // of the successor
		exit   int
		stderr string
	}{
		{"leaves at once", "-exit-now -exit-code 9", 9, "leaving at once with 9"},
		{"leaves after a while", "-warm-up 1m -exit-after 300ms -exit-code 3", 3, "leaving after 300ms with 3"},
		{"leaves with success", "-exit-now", 0, "leaving at once with 0"},
		{"is never ready", "-no-ready", tooLate, "never ready"},
		{"is never ready and ignores TERM", "-no-ready -ignore-term", tooLate, "never ready"},
		{"does not bind what it should", "-http env:nothing", 1, "no socket named"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScratch(t, 0)
			a := address(t)
			u := start(t, options{
				scratch: s, flags: []string{"--listen", a, "--ready-timeout", "8s"},
				command: []string{guestBinary(), "-http", "env", "-flags-file", s.path("flags")},
			})
			u.awaitServing()
			l := startLoad(t, load.Config{Address: a, Clients: 16, PerConnection: 1, Rate: 1000})
			awaitMore(t, l, 50)
			s.write(t, "flags", c.flags, 0o644)
			u.mustNotLeakDescriptors(func() {
				for range 2 {
					v := u.mustRollBack()
					if c.exit != tooLate && (v.Exit == nil || v.Exit.Code != c.exit) {
						t.Errorf("the exit status %d is not told: %+v", c.exit, v.Exit)
					}
					if late := strings.Contains(v.Reason, "within 8s"); late != (c.exit == tooLate) {
						t.Errorf("the reason is %q, the status %+v", v.Reason, v.Exit)
					}
					if !slices.ContainsFunc(v.Stderr, func(line string) bool { return strings.Contains(line, c.stderr) }) {
						t.Errorf("the successor's stderr is not told: %q", v.Stderr)
					}
				}
				awaitMore(t, l, 50)
			})
			// And the next one succeeds.
			s.write(t, "flags", "", 0o644)
			generation := u.swap()
			if generation != 4 {
				t.Errorf("generation %d serves, failed starts count: want 4", generation)
			}
			awaitGeneration(t, l, generation)
			r := lossless(t, "three swaps, two of them failed", l)
			if r.Generations[2]+r.Generations[3] != 0 {
				t.Errorf("a failed successor answered: %v", r.Generations)
			}
			u.awaitAlone()
			u.mustCleanShutdown()
		})
	}
}

// install puts an executable at path by rename, as a deployment does.
func install(t *testing.T, from, path string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A successor that dies on probation is rolled back to the executable that ran
// before, although another one lies in its place.
func TestCrashOnProbation(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	server := s.path("server")
	install(t, guestBinary(), server)
	u := start(t, options{
		scratch: s, flags: []string{"--listen", a, "--probation", "2m"},
		command: []string{server, "-http", "env", "-flags-file", s.path("flags")},
	})
	u.awaitServing()
	l := startLoad(t, load.Config{Address: a, Clients: 16, PerConnection: 1, Rate: 500})
	awaitMore(t, l, 50)

	generation := u.swap()
	awaitGeneration(t, l, generation)
	// What lies there from now on cannot serve.
	s.write(t, "server", "#!/bin/sh\nexit 77\n", 0o755)
	if r, err := http.Get("http://" + a + "/exit?code=6"); err == nil { // it is the point that no answer comes
		_ = r.Body.Close()
	}
	u.await("rolled back", func(r statusReport) error {
		if v := r.lastVerdict(); v.Verdict != "rolled-back" || r.serving() != generation+1 {
			return fmt.Errorf("verdict %+v, generation %d serves", v, r.serving())
		}
		return nil
	})
	awaitGeneration(t, l, generation+1)
	r := l.Stop()
	t.Logf("a crash on probation: %v", r)
	// What the dead generation had accepted is lost with it: at most a request of
	// each client. Nobody is refused.
	if r.Outcomes[load.Refused] != 0 || r.Outcomes[load.Timeout] != 0 || r.Failed() > 16 {
		t.Errorf("a crash costs what was in the server's hands, not more: %v", r)
	}
	u.awaitAlone()
	u.mustCleanShutdown()
}

// A server that dies by itself is started again, and nobody is refused meanwhile.
func TestCrash(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("own bind %v", own), func(t *testing.T) {
			a := address(t)
			o := options{flags: []string{"--listen", a, "--probation", "0", "--retry-interval", "50ms"}, command: []string{guestBinary(), "-http", "env"}}
			if own {
				o = options{flags: []string{"--probation", "0", "--retry-interval", "50ms"}, command: []string{guestBinary(), "-http", a}}
			}
			u := start(t, o)
			u.awaitServing()
			l := startLoad(t, load.Config{Address: a, Clients: 16, PerConnection: 1, Rate: 500})
			for n := 2; n <= 4; n++ {
				awaitMore(t, l, 100)
				pid := u.status().server().Pid
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				awaitGeneration(t, l, n)
			}
			r := l.Stop()
			t.Logf("three crashes: %v", r)
			if r.Outcomes[load.Refused] != 0 || r.Outcomes[load.Timeout] != 0 || r.Failed() > 3*16 {
				t.Errorf("a crash costs what was in the server's hands, not more: %v", r)
			}
			u.awaitServing()
			u.mustCleanShutdown()
		})
	}
}

// The upgrader's own death does not touch the server, and the next upgrader
// takes its place: it serves on, or is swapped, and no client notices.
func TestUpgraderKilled(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("own bind %v", own), func(t *testing.T) {
			a := address(t)
			o := options{flags: []string{"--listen", a}, command: []string{guestBinary(), "-http", "env"}}
			if own {
				o = options{command: []string{guestBinary(), "-http", a}}
			}
			u := start(t, o)
			u.awaitServing()
			l := startLoad(t, load.Config{Address: a, Clients: 20, PerConnection: 1})
			for range amount("INTEGRATION_SWAPS", 3) {
				server := u.status().server()
				u.kill()
				awaitMore(t, l, 200) // the orphan serves
				u = u.again()
				s := u.awaitServing()
				if s.serving() < server.Number {
					t.Errorf("generation %d follows %d", s.serving(), server.Number)
				}
				generation := u.swap()
				if generation <= server.Number {
					t.Errorf("generation %d follows %d", generation, server.Number)
				}
				awaitGeneration(t, l, generation)
				awaitMore(t, l, 200)
				u.awaitAlone()
			}
			lossless(t, "upgraders killed", l)
			u.mustCleanShutdown()
		})
	}
}

// While an exclusive swap lets the predecessor go, clients queue for a successor
// that nobody runs yet. If the upgrader dies then, those are lost with it; the
// predecessor serves on, and the next upgrader leaves it its lane.
func TestUpgraderKilledWhileItLeaves(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--listen", a, "--strategy", "exclusive", "--settle", "5s", "--settle-max", "6s"},
		command: []string{guestBinary(), "-http", "env"},
	})
	u.awaitServing()
	if _, stderr, code := u.run("restart", "--no-wait"); code != 0 {
		t.Fatalf("restart exited %d: %s", code, stderr)
	}
	u.await("leaving", func(r statusReport) error {
		if r.State != "leaving" {
			return fmt.Errorf("state %s", r.State)
		}
		return nil
	})
	u.kill()
	l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 200})
	awaitMore(t, l, 100)
	u = u.again()
	generation := 3 // the second one never began
	awaitGeneration(t, l, generation)
	lossless(t, "taken over from one who was killed", l)
	u.awaitServing()
	u.mustCleanShutdown()
}

// A guest finds in its environment and its descriptors what it should, and
// nothing of ours.
func TestWhatAGuestFinds(t *testing.T) {
	s := newScratch(t, 0)
	a, b := address(t), address(t)
	u := start(t, options{
		scratch: s, flags: []string{"--listen", "web=" + a, "--listen", b, "--dir", s.dir},
		command: []string{guestBinary(), "-http", "env:web", "-http", "env"},
	})
	u.awaitServing()
	predecessor := u.status().server().Pid
	u.swap()
	server := u.awaitAlone().server()
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", server.Pid))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, line := range strings.Split(string(environment), "\x00") {
		key, value, _ := strings.Cut(line, "=")
		if _, twice := have[key]; twice && key != "" {
			t.Errorf("%s is there twice", key)
		}
		have[key] = value
	}
	for key, want := range map[string]string{
		"LISTEN_FDS": "2", "LISTEN_PID": fmt.Sprint(server.Pid), "UPGRADER_GENERATION": "2",
		"UPGRADER_PREDECESSOR": fmt.Sprint(predecessor), "UPGRADER_STRATEGY": "overlap",
	} {
		if have[key] != want {
			t.Errorf("%s is %q, want %q", key, have[key], want)
		}
	}
	if !strings.HasPrefix(have["LISTEN_FDNAMES"], "web:") {
		t.Errorf("LISTEN_FDNAMES is %q", have["LISTEN_FDNAMES"])
	}
	if _, there := have["TABLEFLIP_HAS_PARENT_7DIU3"]; there {
		t.Error("what is between upgraders reached the server")
	}
	// Its own two sockets, and nothing else that is a socket; the state dir's files are ours.
	open := descriptors(server.Pid)
	if n := sockets(open); n != 2 {
		t.Errorf("%d sockets in the server: %v", n, open)
	}
	for number, target := range open {
		if number > 2 && strings.HasPrefix(target, u.state) {
			t.Errorf("descriptor %d of the server is %s", number, target)
		}
	}
	if wd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", server.Pid)); err != nil || wd != s.dir {
		t.Errorf("the server runs in %s (%v)", wd, err)
	}
	u.mustCleanShutdown()
}

// Nobody but the server itself can say that it is ready.
func TestReadyOfAStranger(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	u := start(t, options{
		scratch: s, flags: []string{"--listen", a, "--ready", "notify", "--ready-timeout", "3s"},
		command: []string{guestBinary(), "-http", "env", "-notify", "-flags-file", s.path("flags")},
	})
	u.awaitServing()
	s.write(t, "flags", "-warm-up 1m -pid-file "+s.path("pid"), 0o644)
	first := u.status().serving()
	done := make(chan int, 1)
	go func() {
		c := exec.Command(upgraderBinary(), "restart", "--state-dir", u.state)
		_ = c.Run() // its status is in ProcessState
		done <- c.ProcessState.ExitCode()
	}()
	var socket string
	eventually(t, "the successor's environment", func() error {
		for _, g := range u.status().Generations {
			if g.Number == first || g.Pid == 0 {
				continue
			}
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", g.Pid))
			if err != nil {
				return err
			}
			for _, line := range strings.Split(string(text), "\x00") {
				if path, ok := strings.CutPrefix(line, "NOTIFY_SOCKET="); ok {
					socket = path
					return nil
				}
			}
		}
		return fmt.Errorf("no NOTIFY_SOCKET in any successor")
	})
	// Sent by a process that is none of the generation's. That it is refused at
	// the socket would do as well.
	if _, stderr, code := run(t, runOptions{binary: guestBinary()}, "-say", "READY=1", "-to", socket); code != 0 {
		t.Logf("the stranger was not heard: %s", stderr)
	}
	select {
	case code := <-done:
		if code != 1 {
			t.Errorf("restart exited %d, want 1: the successor never said that it is ready", code)
		}
	case <-time.After(patience):
		t.Error("restart did not end")
	}
	if got := u.status().serving(); got != first {
		t.Errorf("generation %d serves, want %d", got, first)
	}
	u.awaitAlone()
	u.mustCleanShutdown()
}

// A server that daemonises is followed to where it went.
func TestDaemon(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	pidFile := s.path("guest.pid")
	u := start(t, options{
		scratch: s, flags: []string{"--listen", a, "--forking-pid-file", pidFile},
		command: []string{guestBinary(), "-http", "env", "-daemonise", "-pid-file", pidFile},
	})
	u.awaitServing()
	l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 500})
	u.swapUnder(l, 3, 50)
	lossless(t, "three swaps of a daemon", l)
	u.awaitAlone()
	u.mustCleanShutdown()
}

// A server that does not heed TERM is killed with all its processes.
func TestKillAtTheDeadline(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--listen", a, "--stop-timeout", "1s"},
		command: []string{guestBinary(), "-http", "env", "-ignore-term", "-fork", "2"},
	})
	u.awaitServing()
	l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 500})
	u.swapUnder(l, 2, 50)
	lossless(t, "two swaps of a stubborn server", l)
	if s := u.awaitAlone(); s.server().Members != 3 {
		t.Errorf("the generation has %d processes, want 3", s.server().Members)
	}
	u.mustShutdown(128 + int(syscall.SIGKILL))
}

// The files that a status is read from by others.
func TestPidAndStatusFile(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	// A stale one is no obstacle.
	pidFile, statusFile := s.write(t, "pid", "4194304\n", 0o644), s.path("status")
	u := start(t, options{
		scratch: s, flags: []string{"--listen", a, "--pid-file", pidFile, "--status-file", statusFile},
		command: []string{guestBinary(), "-http", "env"},
	})
	u.awaitServing()
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	if got := read(pidFile); strings.TrimSpace(got) != fmt.Sprint(u.pid()) {
		t.Errorf("%s says %q, the upgrader is %d", filepath.Base(pidFile), got, u.pid())
	}
	server := u.status().server()
	if got := read(statusFile); got != fmt.Sprintf("%d:%d\n", server.Number, server.Pid) {
		t.Errorf("%s says %q", filepath.Base(statusFile), got)
	}
	u.mustCleanShutdown()
	if _, err := os.Stat(pidFile); err == nil {
		t.Error("the pid file is left after the stop")
	}
}
