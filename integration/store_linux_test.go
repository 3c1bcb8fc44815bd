package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// streams are clients that send numbered lines without waiting for answers,
// each on one connection, and check that all come back in order.
type streams struct {
	stop   chan struct{}
	all    sync.WaitGroup
	lines  atomic.Int64
	mu     sync.Mutex
	failed []error
}

func startStreams(t *testing.T, address string, n int, pause time.Duration) *streams {
	t.Helper()
	s := &streams{stop: make(chan struct{})}
	t.Cleanup(func() { s.end() })
	for i := range n {
		c, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			t.Fatal(err)
		}
		s.all.Go(func() {
			defer func() { _ = c.Close() }()
			if err := s.stream(c, pause); err != nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.failed = append(s.failed, fmt.Errorf("stream %d: %w", i, err))
			}
		})
	}
	return s
}

// stream sends until the stop, then ends its direction and wants every line
// back. Lines are sent in pieces, so that swaps cut them.
func (s *streams) stream(c net.Conn, pause time.Duration) error {
	sent := make(chan int, 1)
	sending := make(chan error, 1)
	go func() {
		n := 0
		defer func() { sent <- n }()
		for {
			select {
			case <-s.stop:
				sending <- c.(*net.TCPConn).CloseWrite()
				return
			case <-time.After(pause): // a pace, nothing is waited for
			}
			line := fmt.Sprintf("line %d\n", n+1)
			for _, piece := range []string{line[:3], line[3:]} {
				if _, err := io.WriteString(c, piece); err != nil {
					sending <- err
					return
				}
			}
			n++
		}
	}()
	in := bufio.NewReader(c)
	got := 0
	var failed error
	for failed == nil {
		line, err := in.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) || line != "" {
				failed = fmt.Errorf("after line %d: %w", got, err)
			}
			break
		}
		if !strings.HasPrefix(line, fmt.Sprintf("line %d ", got+1)) {
			failed = fmt.Errorf("line %d came back as %q", got+1, line)
			break
		}
		got++
		s.lines.Add(1)
	}
	if failed != nil {
		_ = c.Close() // ends the sender
	}
	failed = errors.Join(failed, <-sending)
	if n := <-sent; failed == nil && got != n {
		failed = fmt.Errorf("%d lines were sent, %d came back", n, got)
	}
	return failed
}

func (s *streams) end() []error {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.all.Wait()
	return s.failed
}

// parked checks what the status says of the store.
func parked(n int) func(statusReport) error {
	return func(s statusReport) error {
		if s.Parked != n || s.Store.Parked != n || s.Store.Refused != 0 {
			return fmt.Errorf("%d descriptors are parked, want %d: %+v", s.Parked, n, s.Store)
		}
		return nil
	}
}

// Established connections are parked by one generation and resumed by the
// next, without a hop: not a byte is lost.
func TestStore(t *testing.T) {
	clients, swaps := amount("INTEGRATION_CLIENTS", 500), amount("INTEGRATION_SWAPS", 20)
	a := address(t)
	u := start(t, options{
		flags:   []string{"--listen", "main=" + a, "--strategy", "exclusive", "--probation", "0", "--settle", "20ms", "--settle-max", "1s"},
		command: []string{parkerBinary()},
	})
	u.awaitServing()
	s := startStreams(t, a, clients, 200*time.Millisecond)
	for range swaps {
		u.swap()
	}
	u.await("all are parked", parked(clients+1)) // and what was read of unfinished lines
	failed := s.end()
	t.Logf("%d swaps: %d connections, %d lines, %d connections lost bytes or died", swaps, clients, s.lines.Load(), len(failed))
	if len(failed) > 0 {
		t.Errorf("%v", failed[0])
	}
	// Nobody wants them any more: the server took them back.
	u.await("the connections are gone", parked(1))
	u.awaitAlone()
	u.mustCleanShutdown()
}

// A server that is killed loses what it had read and not answered; the
// connections that it had parked before live on at its successor, a killed
// upgrader's too. A full stop ends them.
func TestStoreAfterKill(t *testing.T) {
	const clients = 50
	a := address(t)
	u := start(t, options{
		flags:   []string{"--listen", "main=" + a, "--strategy", "exclusive", "--probation", "0", "--settle", "20ms"},
		command: []string{parkerBinary(), "-early"},
	})
	u.awaitServing()
	var all []*bufio.ReadWriter
	for range clients {
		c, err := net.DialTimeout("tcp", a, patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(4 * patience)); err != nil {
			t.Fatal(err)
		}
		all = append(all, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)))
	}
	echo := func(generation int) {
		t.Helper()
		for i, c := range all {
			if _, err := fmt.Fprintf(c, "hello %d\n", i); err == nil {
				_ = c.Flush() // the answer tells
			}
		}
		for i, c := range all {
			line, err := c.ReadString('\n')
			if want := fmt.Sprintf("hello %d %d\n", i, generation); err != nil || line != want {
				t.Fatalf("connection %d: %q, %v, want %q", i, line, err, want)
			}
		}
	}
	echo(1)
	u.await("parked", parked(clients))
	if err := syscall.Kill(u.status().server().Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	u.await("generation 2", func(s statusReport) error {
		if s.serving() != 2 {
			return fmt.Errorf("generation %d serves", s.serving())
		}
		return nil
	})
	echo(2)

	u.kill() // the server has the connections open, and they are found there
	u = u.again()
	u.await("generation 3", func(s statusReport) error {
		if s.serving() != 3 {
			return fmt.Errorf("generation %d serves", s.serving())
		}
		return nil
	})
	echo(3)
	u.await("parked", parked(clients+1)) // its predecessor was asked to quit, and wrote down what it had read
	u.awaitAlone()
	u.mustCleanShutdown()
	for i, c := range all {
		if line, err := c.ReadString('\n'); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("connection %d after the stop: %q, %v", i, line, err)
		}
	}
}

// The store is bounded, and what does not fit is counted.
func TestStoreIsBounded(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--listen", "main=" + a, "--strategy", "exclusive", "--probation", "0", "--store-max", "3"},
		command: []string{parkerBinary(), "-early"},
	})
	u.awaitServing()
	for range 5 {
		c, err := net.DialTimeout("tcp", a, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	u.await("three are parked, two refused", func(s statusReport) error {
		if s.Store.Parked != 3 || s.Store.Refused != 2 || s.Store.Max != 3 {
			return fmt.Errorf("%+v", s.Store)
		}
		return nil
	})
	u.mustCleanShutdown()
}

// The example in C does the same without a library.
func TestStoreFromC(t *testing.T) {
	need(t, "cc")
	s := newScratch(t, 0)
	source, err := filepath.Abs("testdata/park/park.c")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-Wall", "-Wextra", "-Werror", "-o", s.path("park"), source).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	a := address(t)
	u := start(t, options{
		scratch: s, command: []string{s.path("park")},
		flags: []string{"--listen", a, "--strategy", "exclusive", "--probation", "0", "--settle", "20ms", "--ready", "notify"},
	})
	u.awaitServing()
	const clients = 20
	var all []net.Conn
	for range clients {
		c, err := net.DialTimeout("tcp", a, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		all = append(all, c)
	}
	echo := func(text string) {
		t.Helper()
		for i, c := range all {
			_ = c.SetDeadline(time.Now().Add(patience)) // it is open
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			got := make([]byte, len(text))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
				t.Fatalf("connection %d: %q, %v, want %q", i, got, err, text)
			}
		}
	}
	echo("first")
	for range 3 {
		u.swap()
		echo("again")
	}
	u.await("parked", parked(clients))
	for _, c := range all {
		_ = c.Close() // nothing is left to be said
	}
	u.await("taken back", parked(0))
	u.awaitAlone()
	u.mustCleanShutdown()
}
