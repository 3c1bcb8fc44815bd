package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is a user without privileges.
const nobody = 65534

// options say how an upgrader is started.
type options struct {
	flags   []string // in front of --; --state-dir is added
	command []string // behind it
	user    int      // 0: ours
	env     []string // added to ours
	binary  string   // "": the one built
	scratch *scratch // "": a new one
}

// upgrader is a running one, wrapped around a server.
type upgrader struct {
	t       *testing.T
	options options
	state   string // its state dir
	log     string // where its stdout and stderr go
	command *exec.Cmd
	gone    chan struct{} // closed when it has ended
}

// start runs an upgrader. When the test ends it must be gone, or is ended with
// all that came of it.
func start(t *testing.T, o options) *upgrader {
	t.Helper()
	if o.binary == "" {
		o.binary = upgraderBinary()
	}
	if o.scratch == nil {
		o.scratch = newScratch(t, o.user)
	}
	u := &upgrader{t: t, options: o, state: o.scratch.path("state"), log: o.scratch.path("log"), gone: make(chan struct{})}
	log, err := os.OpenFile(u.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the upgrader has its own
	arguments := append([]string{"--state-dir", u.state}, o.flags...)
	if o.command != nil { // else --config names them
		arguments = append(append(arguments, "--"), o.command...)
	}
	u.command = exec.Command(o.binary, arguments...)
	u.command.Stdout, u.command.Stderr = log, log
	u.command.Env = append(os.Environ(), o.env...)
	u.command.Dir = o.scratch.dir
	u.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if o.user != 0 {
		if os.Getuid() != 0 {
			t.Skip("needs root: runs as another user")
		}
		u.command.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.user), Gid: uint32(o.user)}
	}
	if err := u.command.Start(); err != nil {
		t.Fatal(err)
	}
	nowLiving(u.pid(), t.Name())
	go func() {
		_ = u.command.Wait() // its status is in ProcessState
		noLongerLiving(u.pid())
		close(u.gone)
	}()
	t.Cleanup(u.cleanup)
	return u
}

// again starts a new upgrader with the same arguments and state dir.
func (u *upgrader) again() *upgrader {
	u.t.Helper()
	o := u.options
	return start(u.t, o)
}

func (u *upgrader) pid() int { return u.command.Process.Pid }

// cleanup ends what a test did not end, and shows the log of one that failed.
func (u *upgrader) cleanup() {
	select {
	case <-u.gone:
	default:
		if !u.t.Failed() {
			u.t.Errorf("the test left its upgrader running")
		}
		left := descendants(u.pid())
		_ = u.command.Process.Kill() // it may be gone already
		<-u.gone
		killAll(left)
	}
	if left := strays(); len(left) > 0 {
		if !u.t.Failed() {
			u.t.Errorf("processes are left: %v", left)
		}
		killAll(left)
	}
	if u.t.Failed() {
		u.t.Logf("the upgrader's output:\n%s", u.output())
	}
}

// output is the end of what the upgrader wrote, its server's stderr included.
func (u *upgrader) output() string {
	text, err := os.ReadFile(u.log)
	if err != nil {
		return err.Error()
	}
	const most = 16 << 10
	if len(text) > most {
		text = append([]byte("...\n"), text[len(text)-most:]...)
	}
	return string(text)
}

// run is one call of a client command against the upgrader.
func (u *upgrader) run(arguments ...string) (stdout, stderr string, code int) {
	u.t.Helper()
	return run(u.t, runOptions{binary: u.options.binary, user: u.options.user, dir: u.options.scratch.dir},
		append([]string{arguments[0], "--state-dir", u.state}, arguments[1:]...)...)
}

// tryStatus asks once.
func (u *upgrader) tryStatus() (statusReport, error) {
	u.t.Helper()
	var s statusReport
	stdout, stderr, code := u.run("status", "--json")
	if code != 0 {
		return s, fmt.Errorf("status exited %d: %s", code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		return s, fmt.Errorf("status is no JSON: %w: %.500s", err, stdout)
	}
	return s, nil
}

// status gives the status of an upgrader that must be there.
func (u *upgrader) status() statusReport {
	u.t.Helper()
	s, err := u.tryStatus()
	if err != nil {
		u.t.Fatal(err)
	}
	return s
}

// await waits until the status satisfies check, and gives it.
func (u *upgrader) await(what string, check func(statusReport) error) statusReport {
	u.t.Helper()
	var s statusReport
	eventually(u.t, what, func() error {
		select {
		case <-u.gone:
			u.t.Fatalf("%s: the upgrader ended with %d", what, status(u.command.ProcessState))
		default:
		}
		var err error
		if s, err = u.tryStatus(); err != nil {
			return err
		}
		return check(s)
	})
	return s
}

// awaitServing waits until some generation answers clients.
func (u *upgrader) awaitServing() statusReport {
	u.t.Helper()
	return u.await("serving", func(s statusReport) error {
		if s.serving() == 0 || s.State != "serving" && s.State != "probation" {
			return fmt.Errorf("state %s, generations %+v", s.State, s.Generations)
		}
		return nil
	})
}

// awaitAlone waits until one generation is left: those before it are gone.
func (u *upgrader) awaitAlone() statusReport {
	u.t.Helper()
	return u.await("one generation only", func(s statusReport) error {
		if len(s.Generations) != 1 || s.serving() == 0 {
			return fmt.Errorf("state %s, generations %+v", s.State, s.Generations)
		}
		return nil
	})
}

// swap asks for a swap, which must be committed, and gives the generation that serves.
func (u *upgrader) swap(arguments ...string) int {
	u.t.Helper()
	stdout, stderr, code := u.run(append([]string{"restart"}, arguments...)...)
	if code != 0 {
		u.t.Fatalf("restart exited %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	s := u.status()
	if v := s.lastVerdict(); v.Verdict != "committed" || v.To != s.serving() {
		u.t.Fatalf("restart exited 0, but the last verdict is %+v and generation %d serves", v, s.serving())
	}
	return s.serving()
}

// signal sends one to the upgrader itself.
func (u *upgrader) signal(s syscall.Signal) {
	u.t.Helper()
	if err := u.command.Process.Signal(s); err != nil {
		u.t.Fatalf("signal %v: %v", s, err)
	}
}

// wait gives the exit status once the upgrader has ended.
func (u *upgrader) wait() int {
	u.t.Helper()
	select {
	case <-u.gone:
	case <-time.After(patience):
		u.t.Fatalf("the upgrader did not end within %v", patience)
	}
	return status(u.command.ProcessState)
}

// kill ends the upgrader as a crash would. Its server lives on.
func (u *upgrader) kill() {
	u.t.Helper()
	u.signal(syscall.SIGKILL)
	u.wait()
}

// mustCleanShutdown stops the service: exit status 0, no process is left, no
// address is held, no control socket answers.
func (u *upgrader) mustCleanShutdown() {
	u.t.Helper()
	u.mustShutdown(0)
}

// mustShutdown is mustCleanShutdown for a server that ends with another status.
func (u *upgrader) mustShutdown(want int) {
	u.t.Helper()
	claims := u.status().Claims
	u.signal(unix.SIGTERM)
	if code := u.wait(); code != want {
		u.t.Errorf("exit status %d, want %d", code, want)
	}
	u.mustLeaveNothing()
	for _, c := range claims {
		network, address, ok := strings.Cut(c.Address, "://")
		if !ok || !strings.HasPrefix(network, "tcp") {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			u.t.Errorf("after the stop: %v", err)
			continue
		}
		_ = l.Close() // nobody came
	}
}

// mustLeaveNothing checks that no process of the service is left.
func (u *upgrader) mustLeaveNothing() {
	u.t.Helper()
	eventually(u.t, "no process is left", func() error {
		if left := strays(); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	if _, stderr, code := u.run("status"); code == 0 {
		u.t.Errorf("status answers after the end: %s", stderr)
	}
}

// mustNotLeakDescriptors runs f and wants the upgrader to be as it was before,
// once what is leaving has left: one lane a claim, no more descriptors.
func (u *upgrader) mustNotLeakDescriptors(f func()) {
	u.t.Helper()
	before := descriptors(u.pid())
	f()
	u.mustRest()
	eventually(u.t, "as many descriptors as before", func() error {
		if after := descriptors(u.pid()); lasting(after) > lasting(before) {
			return fmt.Errorf("%d: %v, before %d: %v", lasting(after), after, lasting(before), before)
		}
		return nil
	})
}

// mustRest waits until what is leaving has left: one generation, one lane a
// claim.
func (u *upgrader) mustRest() {
	u.t.Helper()
	u.await("at rest", func(s statusReport) error {
		if len(s.Generations) != 1 || s.serving() == 0 {
			return fmt.Errorf("state %s, generations %+v", s.State, s.Generations)
		}
		for _, c := range s.Claims {
			if len(c.Lanes) != 1 || c.Lanes[0].Generation != s.serving() {
				return fmt.Errorf("%s has the lanes %+v, generation %d serves", c.Address, c.Lanes, s.serving())
			}
		}
		return nil
	})
}
