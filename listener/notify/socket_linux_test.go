package notify

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// heard is a socket that is being run, and what came.
type heard struct {
	socket   *Socket
	messages chan Message
	ignored  chan error
}

// hear makes a socket, names it in NOTIFY_SOCKET and runs it. take keeps the
// files of messages.
func hear(t *testing.T, take bool, allow func(int, uint32) bool) *heard {
	t.Helper()
	s, err := Listen(private(t, "s"))
	if err != nil {
		t.Fatal(err)
	}
	h := &heard{socket: s, messages: make(chan Message, 100), ignored: make(chan error, 100)}
	s.Allow = allow
	s.Observe = func(err error) { h.ignored <- err }
	ctx, cancel := context.WithCancel(t.Context())
	var join sync.WaitGroup
	join.Go(func() {
		err := s.Run(ctx, func(m Message) {
			if take {
				files := m.Take()
				m.Files = files
			}
			h.messages <- m
		})
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		join.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Setenv("NOTIFY_SOCKET", s.Path())
	return h
}

func (h *heard) next(t *testing.T) Message {
	t.Helper()
	select {
	case m := <-h.messages:
		return m
	case err := <-h.ignored:
		t.Fatalf("a message was ignored: %v", err)
	case <-patient(t).Done():
		t.Fatal("no message came")
	}
	return Message{}
}

func (h *heard) nextIgnored(t *testing.T, want string) {
	t.Helper()
	select {
	case m := <-h.messages:
		t.Fatalf("%q was not ignored", m.Fields)
	case err := <-h.ignored:
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q", err, want)
		}
	case <-patient(t).Done():
		t.Fatalf("nothing was said of %q", want)
	}
}

func TestSendAndHear(t *testing.T) {
	h := hear(t, false, nil)
	if err := Send("READY=1\nSTATUS=here"); err != nil {
		t.Fatal(err)
	}
	m := h.next(t)
	if !m.Ready || m.Status != "here" || m.Pid != os.Getpid() || int(m.Uid) != os.Getuid() || int(m.Gid) != os.Getgid() {
		t.Errorf("%+v", m)
	}
	if err := Ready(); err != nil {
		t.Fatal(err)
	}
	if !h.next(t).Ready {
		t.Error("Ready did not say so")
	}
}

// The pid is the kernel's, of another process too, whatever that one says and
// even when it is gone already.
func TestThePidIsTheKernels(t *testing.T) {
	h := hear(t, false, nil)
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), roleVariable+"=main", "GORACE=atexit_sleep_ms=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if m := h.next(t); m.Pid != c.Process.Pid || m.MainPID != 1234 {
		t.Errorf("pid %d, main %d; it was %d", m.Pid, m.MainPID, c.Process.Pid)
	}
}

func TestNobodyElseIsHeard(t *testing.T) {
	var asked int
	h := hear(t, false, func(pid int, uid uint32) bool {
		asked++
		return pid != os.Getpid() || int(uid) != os.Getuid() || asked > 1
	})
	r, w := pipe(t)
	if err := Send("READY=1\nFDSTORE=1", w); err != nil {
		t.Fatal(err)
	}
	h.nextIgnored(t, "may not send any")
	closed(t, r, w)
	if err := Send("READY=1"); err != nil {
		t.Fatal(err)
	}
	h.next(t)
}

func TestPermissions(t *testing.T) {
	path := private(t, "s")
	defer unix.Umask(unix.Umask(0))
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	again, err := Listen(path) // one that was left there
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // is no longer the one at path
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("Close removed a socket of somebody else: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Close left the socket: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if err := again.Run(t.Context(), nil); err != nil {
		t.Errorf("Run after Close: %v", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a file was replaced")
	}
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path + "2"); err == nil || !strings.Contains(err.Error(), "others can write") {
		t.Errorf("in a directory of everybody's: %v", err)
	}
	if _, err := Listen(path + strings.Repeat("x", 107)); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("a path that is too long: %v", err)
	}
	if _, err := Listen(path + "/s"); err == nil {
		t.Error("a directory that is none")
	}
}

func TestRunEndsWithItsContextAndBeginsAgain(t *testing.T) {
	s, err := Listen(private(t, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Setenv("NOTIFY_SOCKET", s.Path())
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		if err := Send("READY=1"); err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := s.Run(ctx, func(Message) { n++; cancel() }); err != nil || n != 1 {
			t.Errorf("%d messages, %v", n, err)
		}
	}
}

// Another process can go on where this one stopped; what waits is not lost.
func TestAdopt(t *testing.T) {
	s, err := Listen(private(t, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Setenv("NOTIFY_SOCKET", s.Path())
	if err := Send("READY=1"); err != nil {
		t.Fatal(err)
	}
	f, err := s.File()
	if err != nil {
		t.Fatal(err)
	}
	next, err := Adopt(f, s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	ctx, cancel := context.WithCancel(patient(t))
	defer cancel()
	var got Message
	if err := next.Run(ctx, func(m Message) { got = m; cancel() }); err != nil || got.Pid != os.Getpid() {
		t.Errorf("%+v, %v", got, err)
	}
	r, _ := pipe(t)
	if _, err := Adopt(r, "x"); err == nil {
		t.Error("a pipe was adopted")
	}
}

func TestWhatIsNotAMessage(t *testing.T) {
	h := hear(t, false, nil)
	r, w := pipe(t)
	for _, c := range []struct{ text, want string }{
		{"READY=1\x00\x00", "NUL"},
		{strings.Repeat("x", maxMessage+1), "more than 4096"},
		{strings.Repeat("x", 20_000), "more than 4096"},
		{"BARRIER=1\nREADY=1", "BARRIER=1"},
	} {
		if err := Send(c.text, w); err != nil {
			t.Fatal(err)
		}
		h.nextIgnored(t, c.want)
	}
	if err := Send("BARRIER=1"); err != nil {
		t.Fatal(err)
	}
	h.nextIgnored(t, "0 descriptors")
	if err := Send("BARRIER=1", w, w); err != nil {
		t.Fatal(err)
	}
	h.nextIgnored(t, "2 descriptors")
	closed(t, r, w)
	if err := Send(strings.Repeat("x", maxMessage-8) + "\nREADY=1"); err != nil {
		t.Fatal(err)
	}
	if !h.next(t).Ready {
		t.Error("the longest message was not understood")
	}
}

// Files that nobody takes are closed; those that are taken stay.
func TestFiles(t *testing.T) {
	for _, take := range []bool{false, true} {
		h := hear(t, take, nil)
		r, w := pipe(t)
		many := make([]syscall.Conn, filesMax)
		for i := range many {
			many[i] = w
		}
		if err := Send("FDSTORE=1", many...); err != nil {
			t.Fatal(err)
		}
		m := h.next(t)
		if len(m.Files) != filesMax {
			t.Errorf("%d files came", len(m.Files))
		}
		if take {
			for _, f := range m.Files {
				flags := -1
				if err := with(f, func(fd int) { flags, _ = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0) }); err != nil || flags != unix.FD_CLOEXEC {
					t.Errorf("flags %d, %v: children would inherit it", flags, err)
				}
				_ = f.Close()
			}
		}
		closed(t, r, w)
	}
}

// A receiver that may have no more descriptors loses none of those that came.
func TestTruncatedControlIsClosed(t *testing.T) {
	path := private(t, "s")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	r, w := pipe(t)
	if err := Send("READY=1", w, w, w, w); err != nil {
		t.Fatal(err)
	}
	rx := newReceiver(s.conn)
	rx.oob = make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(2*4)) // too few for four
	m, err := rx.receive(nil)
	if _, ok := errors.AsType[ignored](err); !ok || !strings.Contains(err.Error(), "did not all arrive") {
		t.Errorf("%v", err)
	}
	if len(m.Files) == 0 {
		t.Error("those that came cannot be closed")
	}
	m.closeFiles()
	closed(t, r, w)
}

// What was sent before a barrier was handled when Barrier returns.
func TestBarrier(t *testing.T) {
	s, err := Listen(private(t, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Setenv("NOTIFY_SOCKET", s.Path())
	ctx, cancel := context.WithCancel(t.Context())
	if err := Send("READY=1"); err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithCancel(t.Context())
	stop()
	if err := Barrier(short); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody runs, and the barrier says %v", err)
	}
	var mu sync.Mutex
	n := 0
	var join sync.WaitGroup
	join.Go(func() {
		_ = s.Run(ctx, func(Message) { mu.Lock(); defer mu.Unlock(); n++ })
	})
	for i := range 5 {
		if err := Send("STATUS=x"); err != nil {
			t.Fatal(err)
		}
		wait := Barrier
		if i%2 == 1 { // the receiver's own way to the same
			wait = s.Flush
		}
		if err := wait(patient(t)); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if n != i+2 {
			t.Errorf("after barrier %d: %d messages were handled", i, n)
		}
		mu.Unlock()
	}
	cancel()
	join.Wait()
}

func TestNobodyListens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Ready(); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", private(t, "none"))
	if err := Ready(); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := Barrier(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// pipe is a pipe whose ends are closed when the test ends.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// closed waits until w, which is closed here, is closed everywhere.
func closed(t *testing.T, r, w *os.File) {
	t.Helper()
	_ = w.Close()
	ctx := patient(t)
	defer context.AfterFunc(ctx, func() { _ = r.Close() })()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("somebody still holds the other end: %v", err)
	}
}

// tcp is a connection of two ends.
func tcp(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}
