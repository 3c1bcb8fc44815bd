//go:build !goroutines

package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const bulkSize = 4 << 20

// descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// streaming sends a pattern, and then answers lines.
func streaming(s *server, c net.Conn) {
	if _, err := c.Write(pattern(bulkSize)); err == nil {
		lines(s, c)
	}
}

// narrow listens for clients whose connections hold little: what they do not read is soon with us.
func narrow(t *testing.T) net.Listener {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 128<<10) })
		return err
	}}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// endless writes until it cannot.
func endless(c net.Conn) error {
	b := make([]byte, 256<<10)
	for {
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

// full waits until nothing moves any more: all buffers on the way are full.
func full(t *testing.T, p *Proxy) {
	t.Helper()
	last, since := int64(-1), time.Now()
	await(t, "full buffers", func() bool {
		s := p.Stats()
		if n := s.BytesUp + s.BytesDown; n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 100*time.Millisecond
	})
}

func TestHalfCloseBehindBytesInAPipe(t *testing.T) {
	t.Run("up", func(t *testing.T) {
		p := started(t, Config{})
		proceed, got := make(chan struct{}), make(chan []byte, 1)
		p.Serve(newServer(t, 1, func(s *server, c net.Conn) {
			<-proceed
			b, _ := io.ReadAll(c)
			got <- b
			io.WriteString(c, "bye\n")
		}).backend())
		c := connect(t, p)
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write(pattern(2 * bulkSize))
			c.CloseWrite()
			sent <- err
		}()
		full(t, p)
		close(proceed)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if b := <-got; !bytes.Equal(b, pattern(2*bulkSize)) {
			t.Errorf("the server got %d other bytes", len(b))
		}
		if line := hear(t, c); line != "bye" {
			t.Errorf("got %q", line)
		}
	})
	t.Run("down", func(t *testing.T) {
		p := started(t, Config{Public: narrow(t)})
		p.Serve(newServer(t, 1, func(s *server, c net.Conn) { c.Write(pattern(2 * bulkSize)) }).backend())
		c := connect(t, p)
		full(t, p)
		b, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(b, pattern(2*bulkSize)) {
			t.Errorf("got %d other bytes, %v", len(b), err)
		}
	})
}

func TestResetsDuringAStream(t *testing.T) {
	before := descriptors(t)
	t.Run("server", func(t *testing.T) {
		p := started(t, Config{})
		s := newServer(t, 1, func(s *server, c net.Conn) {
			endless(c)
			<-s.quit
		})
		p.Serve(s.backend())
		c := connect(t, p)
		full(t, p)
		s.kill()
		if n, err := io.Copy(io.Discard, c); err == nil {
			t.Errorf("%d bytes, and an end in good order", n)
		}
		await(t, "the session's end", func() bool { return p.Stats().Sessions == 0 })
	})
	t.Run("client", func(t *testing.T) {
		p := started(t, Config{})
		failed := make(chan error, 1)
		p.Serve(newServer(t, 1, func(s *server, c net.Conn) {
			failed <- endless(c)
		}).backend())
		c := connect(t, p)
		full(t, p)
		c.SetLinger(0)
		c.Close()
		if err := <-failed; err == nil {
			t.Error("the server could write on")
		}
		await(t, "the session's end", func() bool { return p.Stats().Sessions == 0 })
	})
	await(t, "all descriptors to be closed", func() bool { return descriptors(t) <= before })
}

// A session whose bytes are with us is not moved, and none of them is lost.
func TestMoveWhileBytesAreInAPipe(t *testing.T) {
	p := started(t, Config{Public: narrow(t), Policy: PolicyDrain})
	p.Serve(newServer(t, 1, streaming).backend())
	c := connect(t, p)
	full(t, p)
	next := newServer(t, 2, lines)
	o, err := p.Move(t.Context(), next.backend(), Settle{Quiet: time.Millisecond, Max: 50 * time.Millisecond})
	if err != nil || o.Stayed != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	b := make([]byte, bulkSize)
	if _, err := io.ReadFull(c, b); err != nil || !bytes.Equal(b, pattern(bulkSize)) {
		t.Errorf("got other bytes, %v", err)
	}
	await(t, "the move", func() bool { return p.Stats().Moved == 1 })
	if got := ask(t, c, "2"); got != "2 2" {
		t.Errorf("got %q", got)
	}
}

// More streams than there are pipes: the others are copied.
func TestStreamsWithoutPipes(t *testing.T) {
	p := started(t, Config{Public: narrow(t)})
	want := pattern(1 << 20)
	p.Serve(newServer(t, 1, func(s *server, c net.Conn) { c.Write(want) }).backend())
	var clients []net.Conn
	for range (pipesLent + 8) * max(1, min(runtime.GOMAXPROCS(0)-1, loopsMost)) {
		clients = append(clients, connect(t, p))
	}
	full(t, p)
	for _, c := range clients {
		c.SetReadDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(b, want) {
			t.Fatalf("got %d other bytes, %v", len(b), err)
		}
	}
}

// An idle session has two descriptors and no goroutine.
func TestIdleSessions(t *testing.T) {
	const n = 100
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := started(t, Config{})
	p.Serve(Backend{1, func(ctx context.Context) (net.Conn, error) { return Dial(ctx, "tcp", ln.Addr().String(), nil) }})
	var open []net.Conn
	once := func() {
		open = append(open, connect(t, p))
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	once()
	routines, before := runtime.NumGoroutine(), descriptors(t)
	for range n {
		once()
	}
	await(t, "no goroutines", func() bool { return runtime.NumGoroutine() <= routines })
	if got := descriptors(t) - before; got != 4*n { // ours, the clients' and the server's
		t.Errorf("%d descriptors", got)
	}
	for _, c := range open {
		c.Close()
	}
}

func TestDialKnowsTheAddress(t *testing.T) {
	p := started(t, Config{})
	s := newServer(t, 1, lines)
	var dials atomic.Int64
	var left atomic.Bool
	address := s.ln.Addr().String()
	p.Serve(Backend{1, func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		left.Store(false)
		return Dial(ctx, "tcp", address, func() bool { return !left.Load() })
	}})
	for i := range 5 {
		ask(t, connect(t, p), fmt.Sprint(i))
	}
	before := dials.Load()
	if most := int64(len(p.plane.loops)); before > most {
		t.Errorf("it was asked %d times, by %d loops", before, most)
	}
	left.Store(true)
	ask(t, connect(t, p), "x")
	if n := dials.Load() - before; n != 1 {
		t.Errorf("it was asked %d times more", n)
	}
	for _, bad := range []string{"localhost:80", "[fe80::1%lo]:80", "x"} {
		if sockaddr("tcp", bad) != nil {
			t.Errorf("%s has an address", bad)
		}
	}
}

// A client that is gone does not wait for a server.
func TestResetWhileParked(t *testing.T) {
	p := started(t, Config{})
	c := connect(t, p)
	await(t, "a parked session", func() bool { return p.Stats().Parked == 1 })
	c.SetLinger(0)
	c.Close()
	await(t, "its end", func() bool { s := p.Stats(); return s.Sessions == 0 && s.Parked == 0 })
}

// Without descriptors clients wait in the queue, and are served later.
func TestLoopWithoutDescriptors(t *testing.T) {
	p := started(t, Config{})
	p.Serve(newServer(t, 1, lines).backend())
	ask(t, connect(t, p), "x") // it runs
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	restore := sync.OnceFunc(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
	defer restore()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, sockaddr("tcp", p.Addr().String())); err != nil {
		t.Fatal(err)
	}
	await(t, "two back-offs", func() bool { return p.Stats().AcceptError >= 2 })
	restore()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if got := ask(t, c, "1"); got != "1 1" {
		t.Errorf("got %q", got)
	}
}
