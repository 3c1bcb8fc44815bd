package listener

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// orphaned starts a holder of spec with a server, kills the holder, and returns what it told and the server's end.
func orphaned(t *testing.T, spec string, more ...string) (orphan, func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	holder := exec.Command(self, append([]string{spec}, more...)...)
	holder.Env = append(os.Environ(), roleVariable+"=holder")
	holder.Stderr = os.Stderr
	end, life, err := os.Pipe() // the server lives until life is closed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { life.Close() })
	holder.Stdin = end
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	end.Close()
	var told orphan
	err = json.NewDecoder(out).Decode(&told)
	if kerr := holder.Process.Kill(); kerr != nil {
		t.Error(kerr)
	}
	_ = holder.Wait() // killed
	if err != nil {
		t.Fatal("the holder told nothing: ", err)
	}
	return told, func() { life.Close() }
}

// pidfdOf may be refused: an error is a skip.
func pidfdOf(t *testing.T, pid int) *os.File {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Skip("no pidfd: ", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { f.Close() })
	return f
}

// died waits until a pidfd's process is gone.
func died(t *testing.T, pidfd *os.File) {
	t.Helper()
	eventually(t, "the orphan dies", func() bool {
		p := []unix.PollFd{{Events: unix.POLLIN}}
		raw, err := pidfd.SyscallConn()
		if err != nil {
			return false
		}
		n := 0
		_ = raw.Control(func(fd uintptr) {
			p[0].Fd = int32(fd)
			n, _ = unix.Poll(p, 0)
		})
		return n == 1
	})
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, spec string
		take       bool // the orphan's lane is taken out of it
		more       []string
	}{
		{"tcp, taken", "tcp4://127.0.0.1:0", true, nil},
		{"tcp, taken, in a swap", "tcp4://127.0.0.1:0", true, []string{"swap"}},
		{"tcp, taken, while it was to leave", "tcp4://127.0.0.1:0", true, []string{"leave"}},
		{"tcp, beside, while it was to leave", "tcp4://127.0.0.1:0", false, []string{"leave"}},
		{"tcp, beside", "tcp4://127.0.0.1:0", false, nil},
		{"dual stack, taken", "tcp://:0", true, nil},
		{"dual stack, beside", "tcp://:0", false, nil},
		{"unix, taken", "unix", true, nil},
		{"unix, beside", "unix", false, nil},
		{"unixgram, taken", "unixgram", true, nil},
		{"unixgram, beside", "unixgram", false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := c.spec
			if onPath(spec) {
				spec += "://" + filepath.Join(t.TempDir(), "s")
			}
			told, end := orphaned(t, spec, c.more...)
			pidfd := pidfdOf(t, told.Pid)
			s := newSet(t, Config{RescueTime: 10 * time.Millisecond})
			network := told.State.Claims[0].Network

			// Without the state, the orphan is a stranger, and it is named.
			stranger := NewSet(Config{})
			a, err := ParseAddress(spec)
			if err != nil {
				t.Fatal(err)
			}
			a.Port = portOf(told)
			var use *InUseError
			if _, err := stranger.Claim(t.Context(), a); !errors.As(err, &use) || use.Pid != told.Pid && use.Pid != 0 {
				t.Errorf("claimed over an orphan: %v", err)
			}
			stranger.Close()

			var pidfds []*os.File
			if c.take {
				pidfds = append(pidfds, pidfd)
			}
			if err := s.Adopt(told.State, 1, pidfds...); err != nil {
				t.Fatal(err)
			}
			cl := claim(t, s, spec)
			if len(s.Claims()) != 1 || cl.Dial() != told.Addr {
				t.Fatalf("adopted %v", s.Claims())
			}
			if len(s.Lanes(1)) != 1 {
				t.Fatalf("generation 1 has %d lanes", len(s.Lanes(1)))
			}
			_, err = s.Lanes(1)[0].Dup()
			if c.take && err != nil {
				t.Skip("pidfd_getfd is not permitted here")
			}
			clients := hammer(t, 4, network, told.Addr, 1)
			clients.more(t, 50)

			if err := s.Prepare(2); err != nil {
				t.Fatal(err)
			}
			if len(s.Lanes(2)) != 1 {
				t.Fatalf("%d lanes were prepared", len(s.Lanes(2)))
			}
			clients.more(t, 50)
			if got, err := ask(network, told.Addr); got != 1 || err != nil {
				t.Errorf("before the swap: answered by generation %d, %v", got, err)
			}
			serve(t, s, 2)
			if err := s.Steer(2); err != nil {
				t.Fatal(err)
			}
			clients.steered.Store(2)
			clients.more(t, 50)
			if !c.take {
				clients.stop() // nobody can look into the orphan's queue
			}
			if _, err := s.Settle(t.Context(), 1, SettleOptions{Quiet: 30 * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
			end()
			died(t, pidfd)
			s.Retire(1)
			eventually(t, "the orphan's lane has left", func() bool { return len(s.Lanes(1)) == 0 })
			for range 50 {
				if got, err := ask(network, told.Addr); got != 2 || err != nil {
					t.Fatalf("after the swap: answered by generation %d, %v", got, err)
				}
			}
			clients.verify(t)
		})
	}
}

func portOf(o orphan) int {
	var port int
	addr := o.State.Claims[0].Addr
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == ':' {
			_, _ = fmt.Sscanf(addr[i+1:], "%d", &port)
			break
		}
	}
	return port
}

// TestAdoptNobody: the orphan has died as well.
func TestAdoptNobody(t *testing.T) {
	t.Parallel()
	told, end := orphaned(t, "tcp4://127.0.0.1:0")
	pidfd := pidfdOf(t, told.Pid)
	end()
	died(t, pidfd)
	s := newSet(t, Config{})
	if err := s.Adopt(told.State, 1); err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			t.Skip("somebody else has the port by now")
		}
		t.Fatal(err)
	}
	if len(s.Claims()) != 1 || len(s.Lanes(1)) != 0 {
		t.Fatalf("claims %v, lanes %v", s.Claims(), s.Lanes(1))
	}
	lane(t, s, s.Claims()[0], 2)
	serve(t, s, 2)
	if got, err := ask("tcp", told.Addr); got != 2 || err != nil {
		t.Errorf("answered by generation %d, %v", got, err)
	}
}

// TestAdoptStranger: a socket on the address that the state does not know is not joined.
func TestAdoptStranger(t *testing.T) {
	t.Parallel()
	other := newSet(t, Config{})
	c := claim(t, other, "tcp4://127.0.0.1:0")
	lane(t, other, c, 1)
	st := other.State()
	st.Claims[0].Lanes[0].Cookie++
	s := newSet(t, Config{})
	if err := s.Adopt(st, 1); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("joined a stranger's group: %v", err)
	}
}

// TestHandOver: a set is handed to another under load, as in an upgrade of the upgrader.
func TestHandOver(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"tcp4://127.0.0.1:0", "udp4://127.0.0.1:0", "unix", "unixgram"} {
		if onPath(spec) {
			spec += "://" + filepath.Join(t.TempDir(), "s")
		}
		var saved State
		old := newSet(t, Config{Save: func(st State) { saved = st }})
		c := claim(t, old, spec)
		lane(t, old, c, 1)
		lane(t, old, c, 2)
		serve(t, old, 1)
		serve(t, old, 2)
		if err := old.Steer(2); err != nil {
			t.Fatal(err)
		}
		clients := hammer(t, 4, c.Network(), c.Dial(), 2)
		clients.more(t, 20)
		var files []*os.File
		for _, gen := range []int{2, 1} {
			f, err := old.Lanes(gen)[0].Dup()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			files = append(files, f)
		}
		raw, err := json.Marshal(old.State())
		if err != nil {
			t.Fatal(err)
		}
		var st State
		if err := json.Unmarshal(raw, &st); err != nil {
			t.Fatal(err)
		}
		if len(saved.Claims) != 1 || saved.Claims[0].Serving != 2 || len(saved.Claims[0].Lanes) != 2 {
			t.Errorf("saved %+v", saved)
		}
		next := newSet(t, Config{RescueTime: 10 * time.Millisecond})
		if err := next.AdoptFiles(st, files); err != nil {
			t.Fatal(err)
		}
		if err := old.Detach(); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			f.Close()
		}
		clients.more(t, 20)
		nc := next.Claims()[0]
		lane(t, next, nc, 3)
		serve(t, next, 3)
		clients.more(t, 20)
		if err := next.Steer(3); err != nil {
			t.Fatal(err)
		}
		clients.steered.Store(3)
		clients.more(t, 20)
		for gen := 1; gen <= 2; gen++ {
			if _, err := next.Settle(t.Context(), gen, SettleOptions{Quiet: 10 * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
		}
		clients.verify(t)
	}
}

func TestSettleIsCancelled(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	lane(t, s, claim(t, s, "tcp4://127.0.0.1:0"), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Settle(ctx, 1, SettleOptions{Quiet: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
