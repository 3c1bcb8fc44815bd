package intercept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// modes are the two ways to look at a guest's sockets.
var modes = []struct {
	name string
	guestOptions
}{
	{"pidfd_getfd", guestOptions{}},
	{"learned", guestOptions{shimOrder: shimOrder{Learn: true}, Server: Server{NoPidfdGetfd: true}}},
}

// eachMode runs f in both.
func eachMode(t *testing.T, f func(t *testing.T, o guestOptions, h *lanes)) {
	t.Helper()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) { inMode(t, m.guestOptions, f) })
	}
}

// oneMode is for what has nothing to do with looking at sockets.
func oneMode(t *testing.T, f func(t *testing.T, o guestOptions, h *lanes)) {
	t.Helper()
	inMode(t, modes[0].guestOptions, f)
}

func inMode(t *testing.T, o guestOptions, f func(t *testing.T, o guestOptions, h *lanes)) {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skipf("seccomp user notification: %v", err)
	}
	h := newLanes(t)
	o.Handler = h
	f(t, o, h)
}

// needLook skips where pidfd_getfd is not permitted on a child.
func needLook(t *testing.T) (guestOptions, *lanes) {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skipf("seccomp user notification: %v", err)
	}
	if err := mayLook(); err != nil {
		t.Skipf("pidfd_getfd: %v", err)
	}
	h := newLanes(t)
	return guestOptions{Handler: h}, h
}

// mayLook tries pidfd_getfd on a child, once.
var mayLook = sync.OnceValue(func() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=hello")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = tryPidfdGetfd(cmd.Process.Pid)
	_ = in.Close() // that is how it is told to end
	return errors.Join(err, cmd.Wait())
})

func TestListen(t *testing.T) {
	tests := []struct {
		name, network, host string
		extra               string
		family, protocol    int
		v6only              bool
		dial                string // network of the client
	}{
		{name: "tcp4", network: "tcp4", extra: "tcp", family: afInet, protocol: unix.IPPROTO_TCP, dial: "tcp4"},
		{name: "tcp6", network: "tcp6", host: "::1", extra: "tcp", family: afInet6, protocol: unix.IPPROTO_TCP, v6only: true, dial: "tcp6"},
		{name: "dual", network: "tcp", host: "::", extra: "tcp", family: afInet6, protocol: unix.IPPROTO_TCP, dial: "tcp4"},
		{name: "mptcp", network: "tcp4", extra: "mptcp", family: afInet, protocol: unix.IPPROTO_MPTCP, dial: "tcp4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
				addr := free(t, tt.host)
				o.Exec = tt.name == "tcp4"
				g := startGuest(t, o, "listen", tt.network, addr, tt.extra)
				l := h.lane(g.expect("ready"))
				if e := g.event("bind"); e.Outcome != Injected || e.Err != nil || e.Addr.String() != addr {
					t.Errorf("bind: %+v", e)
				}
				if e := g.event("listen"); e.Outcome != Listened || e.Err != nil || l.listened != 1 {
					t.Errorf("listen: %+v, %d times", e, l.listened)
				}
				s := h.bound().Socket
				if tt.extra == "mptcp" && s.Protocol == unix.IPPROTO_TCP {
					t.Skip("Multipath TCP is off here")
				}
				if s.Network != "tcp" || s.Family != tt.family || s.V6Only != tt.v6only || s.ReusePort || !s.NonBlocking ||
					(tt.protocol != 0 && s.Protocol != tt.protocol) {
					t.Errorf("described as %+v", s)
				}
				_, port, err := net.SplitHostPort(addr)
				if err != nil {
					t.Fatal(err)
				}
				if tt.host == "::" {
					addr = net.JoinHostPort("127.0.0.1", port)
				}
				dial(t, tt.dial, addr, "through the lane")
				g.finish()
			})
		})
	}
}

func TestPacket(t *testing.T) {
	eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		for _, tt := range []struct{ network, host string }{{"udp4", ""}, {"udp6", "::1"}} {
			t.Run(tt.network, func(t *testing.T) {
				addr := free(t, tt.host)
				g := startGuest(t, o, "packet", tt.network, addr)
				h.lane(g.expect("ready"))
				if e := g.event("bind"); e.Outcome != Injected || e.Err != nil {
					t.Errorf("bind: %+v", e)
				}
				dial(t, tt.network, addr, "through the lane")
				g.finish()
			})
		}
	})
}

func TestListenOnUDPIsTheKernels(t *testing.T) {
	oneMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		g := startGuest(t, o, "listenfile", free(t, ""))
		if got := g.expect("listen"); got != "true" {
			t.Errorf("EOPNOTSUPP: %s", got)
		}
		g.finish()
	})
}

func TestReusePort(t *testing.T) {
	eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		addr := free(t, "")
		g := startGuest(t, o, "reuseport", "tcp4", addr)
		got := strings.Fields(g.expect("ready"))
		seen := make(map[*lane]bool)
		for _, inode := range got {
			seen[h.lane(inode)] = true
		}
		if len(seen) != 4 {
			t.Errorf("four binds got %d lanes: %v", len(seen), got)
		}
		for range 20 {
			dial(t, "tcp4", addr, "one of them")
		}
		g.finish()
	})
}

func TestSecondBindIsRefused(t *testing.T) {
	eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		addr := free(t, "")
		g := startGuest(t, o, "twice", "tcp4", addr)
		if got := g.expect("second"); got != "true" {
			t.Errorf("EADDRINUSE: %s", got)
		}
		if first, second := g.event("bind"), g.event("bind"); first.Outcome != Injected || second.Outcome != Refused || !errors.Is(second.Err, unix.EADDRINUSE) {
			t.Errorf("%+v, %+v", first, second)
		}
		dial(t, "tcp4", addr, "the first serves")
		g.finish()
	})
}

func TestBindCloseBind(t *testing.T) {
	eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		addr := free(t, "")
		g := startGuest(t, o, "again", "tcp4", addr)
		inodes := strings.Fields(g.expect("ready"))
		if inodes[0] != inodes[1] {
			t.Errorf("another lane: %v", inodes)
		}
		h.lane(inodes[0])
		dial(t, "tcp4", addr, "again")
		g.finish()
	})
}

func TestForkAfterBind(t *testing.T) {
	eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		addr := free(t, "")
		g := startGuest(t, o, "fork", addr)
		l := h.lane(g.expect("ready"))
		bind, listen := g.event("bind"), g.event("listen")
		if bind.Outcome != Injected || listen.Outcome != Listened || l.listened != 1 || bind.Tgid == listen.Tgid {
			t.Errorf("%+v, %+v", bind, listen)
		}
		dial(t, "tcp4", addr, "the child")
		g.finish()
	})
}

func TestOptions(t *testing.T) {
	o, h := needLook(t)
	g := startGuest(t, o, "options", free(t, ""))
	h.lane(g.expect("ready")) // "differs" would come before
	s := h.bound().Socket
	if s.NonBlocking {
		t.Error("a blocking socket became another")
	}
	for _, want := range guestOptionsSet {
		found := false
		for _, got := range s.Options {
			found = found || (got.Level == want.level && got.Name == want.name)
		}
		if !found {
			t.Errorf("option %d of %d is not described", want.name, want.level)
		}
	}
	g.finish()
}

func TestOthersPass(t *testing.T) {
	oneMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		g := startGuest(t, o, "others", filepath.Join(t.TempDir(), "s"))
		addr := g.expect("port0")
		if got := g.expect("errors"); got != "true true true" {
			t.Errorf("the kernel's own errors: %s", got)
		}
		dial(t, "tcp4", addr, "port 0")
		g.finish()
		if len(h.requests) != 0 {
			t.Errorf("taken over: %+v", h.requests)
		}
	})
}

func TestHandlerPasses(t *testing.T) {
	oneMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		h.bindErr = fmt.Errorf("not this one: %w", ErrPass)
		addr := free(t, "")
		g := startGuest(t, o, "listen", "tcp4", addr)
		g.expect("ready")
		if bind, listen := g.event("bind"), g.event("listen"); bind.Outcome != Passed || listen.Outcome != Passed {
			t.Errorf("%+v, %+v", bind, listen)
		}
		dial(t, "tcp4", addr, "the guest's own")
		g.finish()
	})
}

func TestHandlerFails(t *testing.T) {
	oneMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		h.bindErr = errors.New("no errno: the kernel shall try")
		g := startGuest(t, o, "listen", "tcp4", free(t, ""))
		g.expect("ready")
		g.finish()
	})
}

func TestHandlerRefuses(t *testing.T) {
	oneMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		h.bindErr = fmt.Errorf("forbidden: %w", unix.EACCES)
		g := startGuest(t, o, "listen", "tcp4", free(t, ""))
		if got := g.expect("error"); !strings.Contains(got, "permission denied") {
			t.Errorf("guest: %s", got)
		}
		if e := g.event("bind"); e.Outcome != Refused || !errors.Is(e.Err, unix.EACCES) {
			t.Errorf("%+v", e)
		}
		g.over()
	})
}

func TestSteeringProgramIsIgnored(t *testing.T) {
	oneMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		addr := free(t, "")
		g := startGuest(t, o, "steering", addr)
		if got := g.expect("attached"); got != "<nil>" {
			t.Errorf("attach: %s", got)
		}
		if e := g.event("setsockopt"); e.Outcome != Ignored {
			t.Errorf("%+v", e)
		}
		dial(t, "tcp4", addr, "steered")
		g.finish()
	})
}

func TestSlowBindBlocksNobodyElse(t *testing.T) {
	oneMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		slow, fast := free(t, ""), free(t, "")
		entered, release := make(chan struct{}), make(chan struct{})
		h.entering = func(r Request) {
			if r.Socket.Addr == netip.MustParseAddrPort(slow) {
				close(entered)
				<-release
			}
		}
		var once sync.Once
		free := func() { once.Do(func() { close(release) }) }
		defer free()
		g := startGuest(t, o, "two", slow, fast)
		<-entered
		if got := g.expect("bound"); got != fast {
			t.Errorf("bound %s first", got)
		}
		free()
		if got := g.expect("bound"); got != slow {
			t.Errorf("then %s", got)
		}
		g.finish()
	})
}

func TestKilledInTheMiddle(t *testing.T) {
	eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		entered, release := make(chan struct{}), make(chan struct{})
		h.entering = func(Request) { close(entered); <-release }
		g := startGuest(t, o, "listen", "tcp4", free(t, ""))
		<-entered
		if err := g.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		err := g.cmd.Wait() // until it is gone
		close(release)
		var status *exec.ExitError
		if !errors.As(err, &status) {
			t.Fatal(err)
		}
		if e := g.event("bind"); e.Outcome != Gone {
			t.Errorf("%+v", e)
		}
		g.over()
		if h.lost != 1 {
			t.Errorf("told %d times that the lane is lost", h.lost)
		}
		// Nothing of the guest's is left with us: neither its socket, nor a
		// second duplicate of the lane.
		h.mu.Lock()
		defer h.mu.Unlock()
		for inode, want := range map[uint64]int{h.requests[0].Inode: 0, h.by[firstKey(h)][0].inode: 1} {
			same, _, err := (&task{tid: os.Getpid()}).descriptors(inode)
			if err != nil || len(same) != want {
				t.Errorf("socket %d is open as %v, %v; want %d", inode, same, err, want)
			}
		}
	})
}

func firstKey(h *lanes) string {
	for k := range h.by {
		return k
	}
	return ""
}

// TestHandOver: while nobody serves, a bind waits for the next Serve.
func TestHandOver(t *testing.T) {
	oneMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		o.NoServe = true
		addr := free(t, "")
		ctx, cancel := context.WithCancel(t.Context())
		g := startGuest(t, o, "listen", "tcp4", addr)
		cancel()
		if err := (Server{Handler: h}).Serve(ctx, g.notify); !errors.Is(err, context.Canceled) {
			t.Fatalf("serve: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		entered, served := make(chan struct{}), make(chan error, 1)
		h.entering = func(Request) { close(entered); cancel() } // it ends with a bind in its hands
		go func() { served <- Serve(ctx, g.notify, h) }()
		<-entered
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Fatalf("serve: %v", err)
		}
		h.entering = nil
		g.serve(o) // the listen is mostly this one's, on a lane that it did not inject
		if l := h.lane(g.expect("ready")); l.listened != 1 {
			t.Errorf("listened %d times", l.listened)
		}
		dial(t, "tcp4", addr, "handed over")
		g.finish()
	})
}

// TestSignals: without WAIT_KILLABLE_RECV a signal makes a thread ask again
// while it is being answered.
func TestSignals(t *testing.T) {
	oneMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		o.Interruptible = true
		var calls atomic.Int32
		h.entering = func(r Request) {
			if calls.Add(1)%3 == 0 {
				return // else no call would ever get through
			}
			for range 3 {
				if err := unix.Tgkill(r.Tgid, r.Pid, unix.SIGUSR1); err != nil {
					t.Errorf("signal: %v", err)
				}
				time.Sleep(200 * time.Microsecond) // not to wait for something: to spread the signals
			}
		}
		g := startGuest(t, o, "signals", free(t, ""))
		g.expect("ready")
		g.finish()
	})
}

func TestForeignNetwork(t *testing.T) {
	eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		o.NewNetwork = true
		g := startGuest(t, o, "listen", "tcp4", free(t, "0.0.0.0"))
		g.expect("ready")
		if e := g.event("bind"); e.Outcome != Passed || !strings.Contains(fmt.Sprint(e.Err), "namespace") {
			t.Errorf("%+v", e)
		}
		g.finish()
	})
}

// TestAsNobody runs the others again without any privilege.
func TestAsNobody(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	if testing.Short() {
		t.Skip("short")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^(TestListen|TestEpollBeforeBind|TestKilledInTheMiddle)$/^(tcp6|pidfd_getfd)$", "-test.v", "-test.timeout=2m")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: TestListen") {
		t.Errorf("nothing was tested:\n%s", out)
	}
}
