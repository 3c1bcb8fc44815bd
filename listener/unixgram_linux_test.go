package listener

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sink takes one-way datagrams, and remembers who got which.
type sink struct {
	mu  sync.Mutex
	got map[string][]int // text: generations
}

// take reads lanes of gen until the func that it returns is called.
func (k *sink) take(t *testing.T, s *Set, gen int) (stop func()) {
	t.Helper()
	f, err := s.Lanes(gen)[0].Dup()
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.FilePacketConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		b := make([]byte, 1024)
		for {
			n, _, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			k.mu.Lock()
			k.got[string(b[:n])] = append(k.got[string(b[:n])], gen)
			k.mu.Unlock()
		}
	})
	stop = sync.OnceFunc(func() {
		p.Close()
		work.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func (k *sink) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.got)
}

// sender sends numbered datagrams as a client of syslog does: connected, and connected anew when that fails.
func sender(path, name string, kept bool, stop <-chan struct{}) (sent int, again int, err error) {
	var c *net.UnixConn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for {
		select {
		case <-stop:
			return sent, again, nil
		default:
		}
		if c == nil {
			if c, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}); err != nil {
				return sent, again, err
			}
		}
		_ = c.SetWriteDeadline(time.Now().Add(patience))
		_, err := fmt.Fprintf(c, "%s %d", name, sent)
		switch {
		case err == nil:
			sent++
		case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EPIPE): // the lane is gone: nothing was taken
			again++
		default:
			return sent, again, err
		}
		if err != nil || !kept {
			c.Close()
			c = nil
		}
	}
}

// TestUnixgramLosesNothing: every datagram that was sent while lanes were left is received, and once.
func TestUnixgramLosesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	events := count(t)
	s := newSet(t, Config{RescueTime: 20 * time.Millisecond, Observe: events.observe})
	c := claim(t, s, "unixgram://"+path)
	all := &sink{got: map[string][]int{}}
	lane(t, s, c, 1)
	before := all.take(t, s, 1)

	stop := make(chan struct{})
	var senders sync.WaitGroup
	var mu sync.Mutex
	want := map[string]bool{}
	for i := range 4 {
		senders.Go(func() {
			name := fmt.Sprintf("client%d", i)
			sent, again, err := sender(path, name, i%2 == 0, stop)
			if err != nil {
				t.Errorf("%s, after %d: %v", name, sent, err)
			}
			t.Logf("%s sent %d, and found the lane gone %d times", name, sent, again)
			mu.Lock()
			defer mu.Unlock()
			for n := range sent {
				want[fmt.Sprintf("%s %d", name, n)] = true
			}
		})
	}
	for gen := 2; gen <= 8; gen++ {
		lane(t, s, c, gen)
		after := all.take(t, s, gen)
		if err := s.Steer(gen); err != nil {
			t.Fatal(err)
		}
		n := all.count()
		eventually(t, "more datagrams", func() bool { return all.count() > n+50 })
		before() // what lies in its lane now, nobody has read
		s.Retire(gen - 1)
		eventually(t, "the lane that was left is gone", func() bool { return len(s.Lanes(gen-1)) == 0 })
		before = after
	}
	close(stop)
	senders.Wait()
	eventually(t, "all have arrived", func() bool { return all.count() >= len(want) })
	all.mu.Lock()
	defer all.mu.Unlock()
	for text, gens := range all.got {
		if !want[text] || len(gens) != 1 {
			t.Errorf("%q was received by generations %v, sent: %v", text, gens, want[text])
		}
	}
	if n := events.of(RescueLost); n != 0 {
		t.Errorf("%d were lost", n)
	}
	t.Logf("%d datagrams, %d relayed", len(want), events.of(Rescued))
}

// TestLateUnixgrams: a client that has connected its socket sends to the lane that it knows after that was left, is answered by
// who serves now, and is told when the lane is gone.
func TestLateUnixgrams(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s") // before the set: it is to be gone first
	s := newSet(t, Config{RescueTime: 100 * time.Millisecond})
	c := claim(t, s, "unixgram://"+path)
	lane(t, s, c, 1)
	client, err := dialUnixgram(c.Dial())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("?")); err != nil { // lies in a queue that nobody reads
		t.Fatal(err)
	}
	lane(t, s, c, 2)
	serve(t, s, 2)
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Settle(t.Context(), 1, SettleOptions{Max: 20 * time.Millisecond}); err != nil || r.Quiet || r.Queued != 1 {
		t.Errorf("with a datagram in the queue: %+v, %v", r, err)
	}
	s.Retire(1)
	b := make([]byte, 16)
	_ = client.SetDeadline(time.Now().Add(patience))
	if n, err := client.Read(b); string(b[:n]) != "2" || err != nil {
		t.Fatalf("got %q, %v", b[:n], err)
	}
	eventually(t, "the client is told", func() bool {
		_, err = client.Write([]byte("?"))
		return err != nil
	})
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("told by %v", err)
	}
	if got, err := ask("unixgram", c.Dial()); got != 2 || err != nil {
		t.Errorf("connected anew: answered by %d, %v", got, err)
	}
}

// TestUnixgramsWaitForRoom: what was left and does not fit into the queue of who serves now waits until it does, in order, and
// with what came beside it.
func TestUnixgramsWaitForRoom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	events := count(t)
	s := newSet(t, Config{RescueTime: time.Millisecond, Observe: events.observe})
	c := claim(t, s, "unixgram://"+path)
	old := lane(t, s, c, 1)
	if err := unix.SetsockoptInt(old.fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil { // as a guest that wants to know who it is
		t.Fatal(err)
	}
	fill := func() (sent int) { // as much as fits, each with a descriptor
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		big := strings.Repeat("x", 5000)
		for ; ; sent++ {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(w, "%d", sent)
			w.Close()
			number := binary.BigEndian.AppendUint16(nil, uint16(sent))
			raw, _ := r.SyscallConn()
			_ = raw.Control(func(h uintptr) {
				_, err = unix.SendmsgN(fd, append(number, big...), unix.UnixRights(int(h)), &unix.SockaddrUnix{Name: c.Dial()}, unix.MSG_DONTWAIT)
			})
			r.Close()
			if errors.Is(err, unix.EAGAIN) {
				return sent
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	first := fill()
	next := lane(t, s, c, 2)
	if err := unix.SetsockoptInt(next.fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	second := fill()
	s.Retire(1)
	eventually(t, "one waits", func() bool {
		s.sys.lock()
		defer s.sys.unlock()
		return old.left.waits()
	})
	f, err := next.Dup()
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.FilePacketConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_ = p.SetReadDeadline(time.Now().Add(patience))
	raw, err := p.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for i := range first + second {
		var d *datagram
		var failed error
		if err := raw.Read(func(fd uintptr) bool {
			d, failed = receive(int(fd))
			return d != nil || failed != nil
		}); err != nil || failed != nil {
			t.Fatalf("after %d of %d and %d: %v, %v", i, second, first, err, failed)
		}
		want := i
		if i >= second {
			want = i - second
		}
		if len(d.bytes) != 5002 || int(binary.BigEndian.Uint16(d.bytes)) != want {
			t.Fatalf("the %d. datagram is number %d with %d bytes, want number %d", i, binary.BigEndian.Uint16(d.bytes), len(d.bytes), want)
		}
		if len(d.files) != 1 || d.sender == nil || int(d.sender.Pid) != os.Getpid() {
			t.Fatalf("the %d. datagram came with %d descriptors, from %+v", i, len(d.files), d.sender)
		}
		pipe := os.NewFile(uintptr(d.files[0]), "pipe")
		text, err := io.ReadAll(pipe)
		pipe.Close()
		if string(text) != fmt.Sprint(want) || err != nil {
			t.Fatalf("its descriptor gives %q, %v", text, err)
		}
	}
	eventually(t, "the lane that was left is gone", func() bool { return len(s.Lanes(1)) == 0 })
	if n, lost := events.of(Rescued), events.of(RescueLost); n != first || lost != 0 {
		t.Errorf("%d relayed, %d lost, want %d and 0", n, lost, first)
	}
}

// TestUnixgramPath: permissions, a path that is put back, and nothing left behind.
func TestUnixgramPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	events := count(t)
	s := newSet(t, Config{Observe: events.observe})
	c := claim(t, s, "unixgram://"+path+"?mode=0620")
	l := lane(t, s, c, 1)
	serve(t, s, 1)
	if err := s.Listen(l); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("listen: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the path is put back", func() bool { return events.of(PutBack) == 1 })
	if got, err := ask("unixgram", path); got != 1 || err != nil {
		t.Errorf("answered by generation %d, %v", got, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o620 {
		t.Errorf("permissions %v, %v", st.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
