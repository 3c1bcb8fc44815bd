package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/upgrader/upgrader/integration/load"
)

// byHand starts a server as a person does. The test's end ends it.
func byHand(t *testing.T, s *scratch, command ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(command[0], command[1:]...)
	log, err := os.Create(s.path("by-hand.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the server has its own
	c.Stdout, c.Stderr, c.Dir = log, log, s.dir
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pid := c.Process.Pid
	nowLiving(pid, "a server of "+t.Name())
	gone := make(chan struct{})
	go func() {
		_ = c.Wait() // however it ended
		noLongerLiving(pid)
		close(gone)
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill() // it may be gone
		<-gone
	})
	return c
}

// awaitListening waits until somebody has an address.
func awaitListening(t *testing.T, address string) {
	t.Helper()
	eventually(t, "the server listens", func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close() // nothing is asked
		}
		return err
	})
}

// A server that was started by hand is taken over, and swapped, and no client
// notices.
func TestAdopt(t *testing.T) {
	goServer := foreign{name: "go", command: func(t *testing.T, s *scratch, port int) []string {
		return []string{guestBinary(), "-http", fmt.Sprintf("127.0.0.1:%d", port)}
	}}
	byDialect := goServer
	byDialect.name = "go, then by a dialect, warm"
	for _, c := range append([]foreign{goServer, byDialect}, foreignServers()...) {
		switch c.name {
		case goServer.name, byDialect.name, "node", "nginx":
		default:
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			need(t, c.tools...)
			s := newScratch(t, 0)
			p := port(t)
			a := fmt.Sprintf("127.0.0.1:%d", p)
			command := c.command(t, s, p)
			server := byHand(t, s, command...)
			awaitListening(t, a)
			l := startLoad(t, load.Config{Address: a, Clients: 16, PerConnection: 1, Rate: 500})
			awaitMore(t, l, 50)

			o := options{scratch: s, verb: []string{"adopt"}, flags: append(append([]string{}, c.flags...), fmt.Sprint(server.Process.Pid))}
			if c.name == byDialect.name {
				o.flags = append(o.flags, "--listen", a, "--warm", "--probation", "1s")
				o.command = []string{guestBinary(), "-http", "env"}
			}
			if c.name == "nginx" { // it writes over its arguments
				if _, stderr, code := run(t, runOptions{dir: s.dir}, append([]string{"adopt", "--state-dir", s.path("other")}, o.flags...)...); code != 100 || !strings.Contains(stderr, "behind --") {
					t.Errorf("without a command: exit %d, %s", code, stderr)
				}
				o.command = command
			}
			u := start(t, o)
			u.await("adopted", func(r statusReport) error {
				if g := r.server(); g.Number != 1 || g.Pid != server.Process.Pid {
					return fmt.Errorf("%+v", r.Generations)
				}
				return nil
			})
			awaitMore(t, l, 100)
			for n := 2; n <= 3; n++ {
				if generation := u.swap(); generation != n {
					t.Errorf("generation %d serves, want %d", generation, n)
				}
				if !c.silent {
					awaitGeneration(t, l, n)
				}
				awaitMore(t, l, 100)
				u.awaitAlone()
			}
			lossless(t, "adopted and swapped twice", l)
			u.mustRest()
			u.mustShutdown(c.exit)
		})
	}
}

// The upgrader dies before the first swap: the next one finds what it had
// adopted.
func TestAdoptAndDie(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	server := byHand(t, s, guestBinary(), "-http", a)
	awaitListening(t, a)
	o := options{scratch: s, verb: []string{"adopt"}, flags: []string{fmt.Sprint(server.Process.Pid)}}
	u := start(t, o)
	u.awaitServing()
	l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 500})
	awaitMore(t, l, 50)
	u.kill()
	awaitMore(t, l, 50)
	u = u.again()
	u.awaitServing()
	generation := u.swap()
	awaitGeneration(t, l, generation)
	lossless(t, "adopted, killed, swapped", l)
	u.awaitAlone()
	u.mustCleanShutdown()
}

// The upgrader is replaced, again when the server that was adopted is long gone.
func TestAdoptAndSelfUpgrade(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	server := byHand(t, s, guestBinary(), "-http", a)
	awaitListening(t, a)
	install(t, upgraderBinary(), s.path("upgrader"))
	u := start(t, options{scratch: s, binary: s.path("upgrader"), verb: []string{"adopt"}, flags: []string{"--init", "--probation", "0", fmt.Sprint(server.Process.Pid)}})
	u.options.binary = upgraderBinary() // of commands
	u.awaitServing()
	l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 300})
	awaitMore(t, l, 50)
	for range 3 {
		generation, _ := u.selfUpgrade()
		awaitGeneration(t, l, generation)
		u.awaitAlone()
		eventually(t, "the server that was adopted is gone", func() error {
			if err := server.Process.Signal(syscall.Signal(0)); err == nil {
				return fmt.Errorf("pid %d runs", server.Process.Pid)
			}
			return nil
		})
	}
	awaitGeneration(t, l, u.swap())
	lossless(t, "adopted, and the upgrader replaced", l)
	u.awaitAlone()
	for _, g := range u.status().Generations {
		mustNotHaveVariables(t, g.Pid, "UPGRADER_ADOPTED")
	}
	u.mustCleanShutdown()
}

// What is no server, or may not be taken, is said in one line.
func TestAdoptRefused(t *testing.T) {
	s := newScratch(t, nobody)
	sleeper := byHand(t, s, "/bin/sleep", "1000")
	for _, c := range []struct {
		name   string
		pid    string
		user   int
		code   int
		stderr string
	}{
		{"no process", "4194304", 0, 100, "no process"},
		{"no pid", "server", 0, 100, "no pid"},
		{"no server", fmt.Sprint(sleeper.Process.Pid), 0, 100, "listens nowhere"},
		{"another user's", fmt.Sprint(sleeper.Process.Pid), nobody, 111, "CAP_SYS_PTRACE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.user != 0 && os.Getuid() != 0 {
				t.Skip("needs root: runs as another user")
			}
			stdout, stderr, code := run(t, runOptions{dir: s.dir, user: c.user}, "adopt", "--state-dir", s.path("state"), c.pid)
			if code != c.code || !strings.Contains(stderr, c.stderr) || strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want %d and %q in one line", code, stdout, stderr, c.code, c.stderr)
			}
		})
	}
	if err := sleeper.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process that was refused: %v", err)
	}
}
