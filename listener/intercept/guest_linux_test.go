package intercept

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary is its own shim and its own guest.
const roleVariable = "INTERCEPT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		goleak.VerifyTestMain(m)
	case "shim":
		shim()
	default:
		guestMain(role)
	}
}

// deadline of every wait for a fact.
const deadline = 30 * time.Second

// shimOrder is what the shim does; it is its last argument.
type shimOrder struct {
	Learn         bool
	NoBinds       bool
	Reach         Reach
	Interruptible bool // leave WAIT_KILLABLE_RECV out
	NoFilter      bool // for comparison
	NewNetwork    bool // a network namespace of its own
	Exec          bool // as a launcher does, even where it can be done without
	Role          string
	Args          []string // of the guest; Args[0] is the program if there is no Role
}

// shim installs the filter, hands the notify descriptor out through
// descriptor 3 and becomes the guest, by exec or otherwise. Errors go to descriptor 3 as text.
func shim() {
	runtime.LockOSThread()
	out := 3
	fail := func(what string, err error) {
		_ = unix.Sendto(out, []byte(what+": "+err.Error()), 0, nil) // nobody else to tell
		os.Exit(99)
	}
	var o shimOrder
	if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
		fail("order", err)
	}
	if o.NewNetwork {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			fail("unshare", err)
		}
	}
	message := []byte("ok")
	var rights []byte
	if !o.NoFilter {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			fail("prctl", err)
		}
		filter, flags := Filter(FilterOptions{Learn: o.Learn, NoBinds: o.NoBinds, Reach: o.Reach})
		if o.stays() {
			flags |= unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH // Linux 5.7
		}
		if o.Interruptible {
			flags &^= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		}
		notify, err := Install(filter, flags)
		if err != nil {
			fail("install", err)
		}
		rights = unix.UnixRights(notify)
	}
	if err := unix.Sendmsg(out, message, rights, nil, 0); err != nil {
		fail("sendmsg", err)
	}
	if o.stays() {
		_ = unix.Close(out) // it has done its work
		runtime.UnlockOSThread()
		os.Args = append([]string{"guest"}, o.Args...)
		guestMain(o.Role)
	}
	unix.CloseOnExec(out)
	path := o.Args
	if o.Role != "" {
		// Not the name: a guest of another user may not be able to reach it.
		path = append([]string{"/proc/self/exe"}, o.Args...)
		if err := os.Setenv(roleVariable, o.Role); err != nil {
			fail("setenv", err)
		}
	}
	fail("exec", unix.Exec(path[0], path, os.Environ()))
}

// stays tells whether the guest can be this very process, with the filter on
// all of its threads: an exec of a test binary with the race detector is dear.
func (o shimOrder) stays() bool { return o.Role != "" && !o.NewNetwork && !o.Exec }

// guestOptions say how a guest is started.
type guestOptions struct {
	shimOrder
	NoServe bool // the test serves
	Handler Handler
	Server  Server // its Handler and Observe are filled in
}

// guest is a process under the real filter, and the Serve that answers it.
type guest struct {
	t      testing.TB
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan string
	notify *os.File // nil without a filter
	served chan error
	events chan Event
}

// startGuest starts role as a guest with args and serves it with o.Handler,
// until the test ends.
func startGuest(t testing.TB, o guestOptions, role string, args ...string) *guest {
	t.Helper()
	o.Role, o.Args = role, args
	return start(t, o)
}

func start(t testing.TB, o guestOptions) *guest {
	t.Helper()
	order, err := json.Marshal(o.shimOrder)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()

	g := &guest{t: t, lines: make(chan string, 1024), events: make(chan Event, 1024), served: make(chan error, 1)}
	g.cmd = exec.Command("/proc/self/exe", string(order))
	// The race detector sleeps for a second at each exit: there is no one to wait for.
	g.cmd.Env = append(os.Environ(), roleVariable+"=shim", "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	g.cmd.Stderr = os.Stderr
	g.cmd.ExtraFiles = []*os.File{theirs}
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = g.cmd.Start()
	_ = theirs.Close() // the child has it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill() // it may be gone
		_ = g.cmd.Wait()         // it was killed, or the test looked already
	})
	go func() {
		defer close(g.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			g.lines <- s.Text()
		}
	}()
	g.notify = receiveNotify(t, ours)
	if g.notify == nil {
		return g
	}
	t.Cleanup(func() { _ = g.notify.Close() })
	if o.NoServe {
		return g
	}
	g.serve(o)
	return g
}

func (g *guest) serve(o guestOptions) {
	s := o.Server
	s.Handler = o.Handler
	s.Observe = func(e Event) {
		// Go's net package tries out what the system can do with port 0.
		if e.Call == "bind" && !e.Addr.IsValid() {
			return
		}
		select {
		case g.events <- e:
		default: // more than any test looks at
		}
	}
	ctx := g.t.Context()
	go func() { g.served <- s.Serve(ctx, g.notify) }()
}

func receiveNotify(t testing.TB, from *os.File) *os.File {
	t.Helper()
	b, oob := make([]byte, 512), make([]byte, 64)
	var n, oobn int
	err := control(from, func(fd int) (err error) {
		for {
			if n, oobn, _, _, err = unix.Recvmsg(fd, b, oob, unix.MSG_CMSG_CLOEXEC); err != unix.EINTR {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	switch text := string(b[:n]); {
	case text == "":
		t.Fatal("the shim died")
	case strings.HasPrefix(text, "unshare: "), strings.HasPrefix(text, "install: "):
		t.Skipf("not permitted here: %s", text)
	case text != "ok":
		t.Fatalf("shim: %s", text)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("notify descriptor: %v, %v", fds, err)
	}
	return os.NewFile(uintptr(fds[0]), "notify")
}

// expect waits for the guest's next line, which must begin with word, and
// returns what follows.
func (g *guest) expect(word string) string {
	g.t.Helper()
	select {
	case line, ok := <-g.lines:
		rest, found := strings.CutPrefix(line, word)
		if !ok || !found {
			g.t.Fatalf("the guest said %q (more: %v), not %q", line, ok, word)
		}
		return strings.TrimSpace(rest)
	case <-time.After(deadline):
		g.t.Fatalf("the guest did not say %q", word)
	}
	return ""
}

// event waits for the next event of call.
func (g *guest) event(call string) Event {
	g.t.Helper()
	timer := time.After(deadline)
	for {
		select {
		case e := <-g.events:
			if e.Call == call {
				return e
			}
		case <-timer:
			g.t.Fatalf("no event of %s", call)
		}
	}
}

// finish lets the guest end and waits for Serve to notice.
func (g *guest) finish() {
	g.t.Helper()
	_ = g.in.Close() // that is how it is told
	g.over()
	if err := g.cmd.Wait(); err != nil {
		g.t.Fatalf("guest: %v", err)
	}
}

// over waits for Serve to end because no task is left.
func (g *guest) over() {
	g.t.Helper()
	if g.notify == nil {
		return
	}
	select {
	case err := <-g.served:
		if err != nil {
			g.t.Fatalf("serve: %v", err)
		}
	case <-time.After(deadline):
		g.t.Fatal("serve did not notice that the guest is gone")
	}
}

// dial connects to the guest and lets it answer one line.
func dial(t testing.TB, network, addr, want string) {
	t.Helper()
	c, err := net.DialTimeout(network, addr, deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(c, want); err != nil {
		t.Fatal(err)
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || got != want+"\n" {
		t.Fatalf("%s answered %q, %v", addr, got, err)
	}
}
