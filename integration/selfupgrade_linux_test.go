package integration

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/integration/load"
)

// ofItsOwn starts an upgrader from a copy of the binary, which a self-upgrade
// may replace.
func ofItsOwn(t *testing.T, s *scratch, flags, command []string) *upgrader {
	t.Helper()
	install(t, upgraderBinary(), s.path("upgrader"))
	u := start(t, options{scratch: s, binary: s.path("upgrader"), flags: flags, command: command})
	u.options.binary = upgraderBinary() // of commands
	u.awaitServing()
	return u
}

// selfUpgrade asks for one, which must be committed, and gives the generation
// that serves and the pid of the upgrader in charge.
func (u *upgrader) selfUpgrade() (generation, pid int) {
	u.t.Helper()
	before := u.status().serving()
	stdout, stderr, code := u.run("self-upgrade")
	if code != 0 {
		u.t.Fatalf("self-upgrade exited %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	var s statusReport
	eventually(u.t, "the new upgrader's generation serves", func() (err error) {
		s, err = u.tryStatus() // the process that was started may be gone by now
		if err == nil && s.serving() != before+1 {
			err = fmt.Errorf("state %s, generation %d serves, %d did before", s.State, s.serving(), before)
		}
		return err
	})
	return s.serving(), s.Pid
}

// selfUpgrades is how many a test does in a row.
func selfUpgrades() int {
	if testing.Short() {
		return 3
	}
	return amount("INTEGRATION_SELF_UPGRADES", 20)
}

// The upgrader's own program is replaced, again and again, and nobody notices.
func TestSelfUpgrade(t *testing.T) {
	upgrades := selfUpgrades()
	a := address(t)
	for _, v := range []struct {
		name    string
		n       int
		flags   []string
		command []string
	}{
		{"claimed", min(upgrades, 10), []string{"--listen", a}, []string{guestBinary(), "-http", "env"}},
		{"own bind", 5, nil, []string{guestBinary(), "-http", a}},
		{"one after the other", 4, []string{"--listen", a, "--strategy", "exclusive"}, []string{guestBinary(), "-http", "env"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			u := ofItsOwn(t, newScratch(t, 0), append([]string{"--init", "--settle", "10ms"}, v.flags...), v.command)
			l := startLoad(t, load.Config{Address: a, Clients: 16, PerConnection: 3, Rate: 500})
			awaitMore(t, l, 50)
			before := u.status().Pid
			if before == u.pid() {
				t.Fatalf("pid %d is its own init", before)
			}
			pids := map[int]bool{before: true}
			for range v.n {
				install(t, upgraderBinary(), u.options.scratch.path("upgrader"))
				generation, pid := u.selfUpgrade()
				if pids[pid] {
					t.Fatalf("the upgrader in charge is %d again", pid)
				}
				pids[pid] = true
				awaitGeneration(t, l, generation)
			}
			// And it does what it did before.
			awaitGeneration(t, l, u.swap())
			lossless(t, fmt.Sprintf("%d self-upgrades", v.n), l)
			u.mustRest()
			s := u.status()
			if parent := processes()[s.Pid].parent; parent != u.pid() {
				t.Errorf("the upgrader, pid %d, has the parent %d, want its init, %d", s.Pid, parent, u.pid())
			}
			for _, g := range s.Generations {
				mustNotHaveVariables(t, g.Pid, "TABLEFLIP_HAS_PARENT_7DIU3", "UPGRADER_SUCCEEDS", "UPGRADER_INIT_FD")
				mustNotBlock(t, g.Pid, a)
			}
			mustNotBlock(t, s.Pid, a)
			u.mustCleanShutdown()
		})
	}
}

// Without an init the process that was started ends, as a supervisor that
// understands MAINPID= expects.
func TestSelfUpgradeChangesTheProcess(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = told.Close() }() // it was only read
	install(t, upgraderBinary(), s.path("upgrader"))
	u := start(t, options{
		scratch: s, binary: s.path("upgrader"), env: []string{"NOTIFY_SOCKET=" + s.path("notify"), "TABLEFLIP_HAS_PARENT_7DIU3=yes"},
		flags: []string{"--listen", a, "--pid-file", s.path("pid"), "--http", "127.0.0.1:0"}, command: []string{guestBinary(), "-http", "env"},
	})
	u.awaitServing()
	l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 300})
	awaitMore(t, l, 50)
	generation, pid := u.selfUpgrade()
	nowLiving(pid, t.Name())
	defer noLongerLiving(pid)
	if code := u.wait(); code != 0 {
		t.Errorf("the old upgrader ended with %d", code)
	}
	awaitGeneration(t, l, generation)
	lossless(t, "a self-upgrade", l)
	mustHear(t, told, fmt.Sprintf("MAINPID=%d", pid))
	if text, err := os.ReadFile(s.path("pid")); err != nil || string(text) != fmt.Sprintf("%d\n", pid) {
		t.Errorf("the pid file says %q (%v), want %d", text, err, pid)
	}
	if _, stderr, code := u.run("stop"); code != 0 {
		t.Errorf("stop exited %d: %s", code, stderr)
	}
	noLongerLiving(pid)
	u.mustLeaveNothing()
	if _, err := os.Stat(s.path("pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pid file is left: %v", err)
	}
}

// mustHear reads datagrams until one has the line.
func mustHear(t *testing.T, from *net.UnixConn, line string) {
	t.Helper()
	eventually(t, line, func() error {
		buf := make([]byte, 4096)
		n, err := from.Read(buf)
		if err == nil && !slices.Contains(strings.Split(string(buf[:n]), "\n"), line) {
			err = fmt.Errorf("heard %q", buf[:n])
		}
		return err
	})
}

// mustNotHaveVariables looks into the environment that a process was given.
func mustNotHaveVariables(t *testing.T, pid int, names ...string) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\x00") {
		if key, _, _ := strings.Cut(line, "="); slices.Contains(names, key) {
			t.Errorf("pid %d was given %s", pid, line)
		}
	}
}

// mustNotBlock checks that the sockets of address that a process has do not
// block: the flag is one of the description, which all who have it share.
func mustNotBlock(t *testing.T, pid int, address string) {
	t.Helper()
	lanes := listening(t, address)
	seen := 0
	for fd, target := range descriptors(pid) {
		if !lanes[target] {
			continue
		}
		seen++
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(info), "flags:")
		var flags int
		if _, err := fmt.Sscanf(rest, "%o", &flags); err != nil {
			t.Fatal(err)
		}
		if flags&unix.O_NONBLOCK == 0 {
			t.Errorf("descriptor %d of pid %d, a lane, blocks", fd, pid)
		}
	}
	if seen == 0 {
		t.Errorf("pid %d has no lane", pid)
	}
}

// listening gives the sockets that listen on an address of 127.0.0.1, as links
// of /proc/PID/fd name them.
func listening(t *testing.T, address string) map[string]bool {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscan(text, &port); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, table := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
			f := strings.Fields(line)
			if len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == "0A" {
				found["socket:["+f[9]+"]"] = true
			}
		}
	}
	return found
}

// A new upgrader that is none, or that fails, changes nothing.
func TestFailedSelfUpgrades(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	u := ofItsOwn(t, s, []string{"--init", "--listen", a, "--ready-timeout", "2s"}, []string{guestBinary(), "-http", "env", "-flags-file", s.path("flags")})
	l := startLoad(t, load.Config{Address: a, Clients: 16, PerConnection: 1, Rate: 500})
	awaitMore(t, l, 50)
	before := u.status()
	for _, c := range []struct {
		name   string
		binary string // the new upgrader; "": a right one
		flags  string // of its server
		says   string
	}{
		{"crashes at once", "#!/bin/sh\nkill -SEGV $$\n", "", "signal"},
		{"ends at once", "#!/bin/sh\nexit 3\n", "", "exit status 3"},
		{"is no upgrader", "#!/bin/sh\nexec /bin/true\n", "", "exited"},
		{"is no program", "no program", "", "exec format error"},
		{"is late", "#!/bin/sh\nexec sleep 1000\n", "", "timed out"},
		{"has a server that crashes", "", "-exit-now -exit-code 9", "exited with status 9"},
		{"has a server that is never ready", "", "-no-ready", "was not ready within"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.binary != "" {
				s.write(t, "upgrader", c.binary, 0o755)
			} else {
				install(t, upgraderBinary(), s.path("upgrader"))
			}
			s.write(t, "flags", c.flags, 0o644)
			stdout, stderr, code := u.run("self-upgrade")
			if code != 1 || !strings.Contains(stdout, c.says) {
				t.Errorf("self-upgrade exited %d, want 1 and %q\nstdout: %s\nstderr: %s", code, c.says, stdout, stderr)
			}
			u.mustBeAs(t, before)
		})
	}
	t.Run("is killed", func(t *testing.T) {
		install(t, upgraderBinary(), s.path("upgrader"))
		s.write(t, "flags", "-warm-up 10m", 0o644)
		done := make(chan string, 1)
		go func() {
			stdout, _, _ := u.run("self-upgrade")
			done <- stdout
		}()
		eventually(t, "the new upgrader starts its server", func() error {
			for _, p := range processes() {
				if p.parent == before.Pid && p.name == "upgrader" {
					for _, child := range descendants(p.pid) {
						if child.name == "guest" {
							return unix.Kill(p.pid, unix.SIGKILL)
						}
					}
				}
			}
			return errors.New("not yet")
		})
		if stdout := <-done; !strings.Contains(stdout, "signal: killed") {
			t.Errorf("self-upgrade says %q", stdout)
		}
		u.mustBeAs(t, before)
	})
	r := l.Stop()
	if r.Failed() != 0 || r.Generations[before.serving()] != r.Requests {
		t.Errorf("self-upgrades that failed: %v", r)
	}
	// And one that is right succeeds.
	install(t, upgraderBinary(), s.path("upgrader"))
	s.write(t, "flags", "", 0o644)
	u.selfUpgrade()
	u.swap()
	u.mustRest()
	u.mustCleanShutdown()
}

// mustBeAs checks that the service is what it was: the same upgrader and
// server, one lane, and no other process.
func (u *upgrader) mustBeAs(t *testing.T, before statusReport) {
	t.Helper()
	eventually(t, "as it was before", func() error {
		s, err := u.tryStatus()
		if err != nil {
			return err
		}
		if s.Pid != before.Pid || len(s.Generations) != 1 || s.server().Pid != before.server().Pid || s.State != "serving" {
			return fmt.Errorf("state %s, upgrader %d, generations %+v", s.State, s.Pid, s.Generations)
		}
		for _, c := range s.Claims {
			if len(c.Lanes) != 1 || c.Lanes[0].State != "steered" {
				return fmt.Errorf("%s has the lanes %+v", c.Address, c.Lanes)
			}
		}
		var others []process
		for _, p := range descendants(u.pid()) {
			if p.pid != s.Pid && p.pid != s.server().Pid {
				others = append(others, p)
			}
		}
		if len(others) > 0 {
			return fmt.Errorf("processes are left: %v", others)
		}
		if v := s.lastVerdict(); v.Verdict != "" && v.Verdict != "rolled-back" {
			return fmt.Errorf("the verdict is %+v", v)
		}
		return nil
	})
}

// The segment goes from upgrader to upgrader with all that is in it, and the
// lock on it with it.
func TestSelfUpgradeWithSegment(t *testing.T) {
	for kind, spec := range segments(t) {
		t.Run(kind, func(t *testing.T) {
			u, _, a := onLedger(t, spec, "--init")
			before := commit(t, a, 10)
			for range 2 {
				u.selfUpgrade()
			}
			sameRecords(t, "two self-upgrades", before, ledgerOf(t, a))
			u.awaitAlone()
			u.mustCleanShutdown()
		})
	}
}

// In a terminal without an init the shell would take over: it is refused.
// Ctrl-C reaches the upgrader behind its init once.
func TestSelfUpgradeInTerminal(t *testing.T) {
	for _, init := range []bool{false, true} {
		t.Run(fmt.Sprintf("init %v", init), func(t *testing.T) {
			a := address(t)
			flags := []string{"--listen", a}
			if init {
				flags = append(flags, "--init")
			}
			u, master := startInTerminal(t, options{flags: flags, command: []string{guestBinary(), "-http", "env"}})
			u.awaitServing()
			l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 300})
			awaitMore(t, l, 50)
			if !init {
				_, stderr, code := u.run("self-upgrade")
				if code != 2 || !strings.Contains(stderr, "--init") || strings.Count(stderr, "\n") != 1 {
					t.Errorf("self-upgrade exited %d: %s", code, stderr)
				}
			} else {
				for range selfUpgrades() {
					generation, _ := u.selfUpgrade()
					awaitGeneration(t, l, generation)
				}
			}
			lossless(t, "in a terminal", l)
			u.awaitAlone()
			if _, err := master.Write([]byte{3}); err != nil { // Ctrl-C
				t.Fatal(err)
			}
			if code := u.wait(); code != 0 { // the server's own: it was not killed
				t.Errorf("Ctrl-C ended it with %d", code)
			}
			u.mustLeaveNothing()
		})
	}
}

// The HTTP API answers for the swap, and goes on at the same address.
func TestSelfUpgradeByHTTP(t *testing.T) {
	a, api := address(t), address(t)
	u := ofItsOwn(t, newScratch(t, 0), []string{"--init", "--listen", a, "--http", api}, []string{guestBinary(), "-http", "env"})
	for range 3 {
		r, err := http.Post("http://"+api+"/selfupgrade", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close() // the status says it
		if r.StatusCode != http.StatusOK {
			t.Errorf("/selfupgrade answered %s", r.Status)
		}
		eventually(t, "the new upgrader is healthy", func() error {
			r, err := http.Get("http://" + api + "/healthz")
			if err != nil {
				return err
			}
			_ = r.Body.Close() // as above
			if r.StatusCode != http.StatusOK {
				return errors.New(r.Status)
			}
			return nil
		})
	}
	u.mustRest()
	u.mustCleanShutdown()
}
