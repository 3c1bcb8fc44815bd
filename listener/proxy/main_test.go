package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a test waits for a fact.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is one generation in this process.
type server struct {
	t     testing.TB
	gen   int
	ln    net.Listener
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	quit  chan struct{} // closed when asked to leave in good order
	wg    sync.WaitGroup
}

// newServer runs handle for each connection, and closes the connection after it.
func newServer(t testing.TB, gen int, handle func(*server, net.Conn)) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, gen: gen, ln: ln, conns: map[net.Conn]struct{}{}, quit: make(chan struct{})}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			select {
			case <-s.quit: // accepted while it was leaving: nobody would end it
				s.mu.Unlock()
				c.Close()
				continue
			default:
			}
			s.conns[c] = struct{}{}
			s.mu.Unlock()
			s.wg.Go(func() {
				defer func() {
					s.mu.Lock()
					delete(s.conns, c)
					s.mu.Unlock()
					c.Close()
				}()
				handle(s, c)
			})
		}
	})
	t.Cleanup(s.kill)
	return s
}

func (s *server) backend() Backend {
	address := s.ln.Addr().String()
	return Backend{Generation: s.gen, Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}}
}

// leave in good order: handlers see quit and an interrupted read, and return.
func (s *server) leave() {
	s.mu.Lock()
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
	s.ln.Close()
	for c := range s.conns {
		c.SetReadDeadline(past)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// kill resets all connections.
func (s *server) kill() {
	s.mu.Lock()
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
	s.ln.Close()
	for c := range s.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// lines answers "N\n" with "GEN N\n" until quit or the client's end.
func lines(s *server, c net.Conn) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(c, "%d %s", s.gen, line); err != nil {
			return
		}
	}
}

// started is a proxy that runs until the test's end.
func started(t testing.TB, config Config) *Proxy {
	t.Helper()
	if config.Public == nil {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		config.Public = ln
	}
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	run(t, p)
	return p
}

// run p until the test's end.
func run(t testing.TB, p *Proxy) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run has not returned")
		}
	})
}

func connect(t testing.TB, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// refused sends on a new connection and says how that ended; connect(2) itself may meet the reset.
func refused(t testing.TB, p *Proxy, send string) string {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		return "reset"
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, send)
	how := ended(c)
	if how == "end" { // the error of a reset is told once, and connecting may have taken it: a reset connection takes no byte
		if _, err := io.WriteString(c, "x"); err != nil {
			how = "reset"
		}
	}
	return how
}

// ask sends a line and gives the answer.
func ask(t testing.TB, c net.Conn, line string) string {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatalf("send %q: %v", line, err)
	}
	return hear(t, c)
}

// hear reads one line, byte by byte.
func hear(t testing.TB, c net.Conn) string {
	t.Helper()
	var got []byte
	var b [1]byte
	for {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		if b[0] == '\n' {
			return string(got)
		}
		got = append(got, b[0])
	}
}

func await(t testing.TB, what string, fact func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !fact() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// ended says how a connection ended: "end", "reset" or "open".
func ended(c net.Conn) string {
	_, err := c.Read(make([]byte, 1))
	switch {
	case err == io.EOF:
		return "end"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "open"
	case err != nil:
		return "reset"
	}
	return "a byte"
}

var generous = Settle{Quiet: 5 * time.Millisecond, Max: patience}

func move(t testing.TB, p *Proxy, s *server) Outcome {
	t.Helper()
	o, err := p.Move(context.Background(), s.backend(), generous)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
