package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/upgrader/upgrader/listener"
)

// starved fails to accept for a while.
type starved struct {
	net.Listener
	left atomic.Int64
}

func (s *starved) Accept() (net.Conn, error) {
	if s.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

func TestAcceptWithoutDescriptors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &starved{Listener: ln}
	s.left.Store(4)
	p := started(t, Config{Public: s})
	p.Serve(newServer(t, 1, lines).backend())
	if got := ask(t, connect(t, p), "1"); got != "1 1" {
		t.Errorf("got %q", got)
	}
	if n := p.Stats().AcceptError; n != 4 {
		t.Errorf("%d back-offs", n)
	}
}

func TestAcceptFails(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	p, err := New(Config{Public: failing{ln, broken}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Run: %v", err)
	}
}

type failing struct {
	net.Listener
	err error
}

func (f failing) Accept() (net.Conn, error) { return nil, f.err }

func TestLimitOfSessions(t *testing.T) {
	p := started(t, Config{Limits: Limits{Sessions: 2}})
	p.Serve(newServer(t, 1, lines).backend())
	a, b := connect(t, p), connect(t, p)
	ask(t, a, "1")
	ask(t, b, "1")
	c := connect(t, p) // in the accept queue
	io.WriteString(c, "3\n")
	if n := p.Stats().Accepted; n != 2 {
		t.Errorf("%d accepted", n)
	}
	a.Close()
	if got := hear(t, c); got != "1 3" {
		t.Errorf("got %q", got)
	}
}

func TestIdle(t *testing.T) {
	p := started(t, Config{Idle: 50 * time.Millisecond})
	p.Serve(newServer(t, 1, lines).backend())
	if how := refused(t, p, ""); how != "reset" {
		t.Errorf("the connection: %s", how)
	}
	if n := p.Stats().Idle; n != 1 {
		t.Errorf("%d were idle", n)
	}
}

func TestFinish(t *testing.T) {
	p := started(t, Config{Departed: func(int) bool { return false }})
	s := newServer(t, 1, lines)
	p.Serve(s.backend())
	c := connect(t, p)
	ask(t, c, "1")
	done := make(chan error, 1)
	go func() { done <- p.Finish(context.Background()) }()
	await(t, "the listener's end", func() bool {
		c, err := net.Dial("tcp", p.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if got := ask(t, c, "2"); got != "1 2" {
		t.Errorf("got %q", got)
	}
	s.leave()
	if how := ended(c); how != "end" {
		t.Errorf("the connection: %s", how)
	}
	c.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	a, err := listener.ParseAddress("unix://" + filepath.Join(dir, "p") + "?mode=0600")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Listen("unix", filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	p := started(t, Config{Public: ln, Policy: PolicyDrain})
	serve := func(gen int) Backend {
		return Backend{gen, func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "unix", back.Addr().String())
			if err != nil {
				return nil, err
			}
			s, err := back.Accept()
			if err != nil {
				c.Close()
				return nil, err
			}
			go func() {
				defer s.Close()
				for line := readLine(s); line != ""; line = readLine(s) {
					fmt.Fprintf(s, "%d %s\n", gen, line)
				}
			}()
			return c, nil
		}}
	}
	p.Serve(serve(1))
	c, err := net.Dial("unix", a.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if got := ask(t, c, "1"); got != "1 1" {
		t.Errorf("got %q", got)
	}
	if o, err := p.Move(t.Context(), serve(2), generous); err != nil || o.Stayed != 0 {
		t.Errorf("%+v, %v", o, err)
	}
	if got := ask(t, c, "2"); got != "2 2" {
		t.Errorf("got %q", got)
	}
}

func TestConfig(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, c := range []Config{{}, {Public: ln, Policy: 9}, {Public: ln, Idle: -1}, {Public: ln, Limits: Limits{Sessions: -1}}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	for _, name := range []string{"resume", "drain", "http1"} {
		if p, err := ParsePolicy(name); err != nil || p.String() != name {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if _, err := ParsePolicy("x"); err == nil {
		t.Error("x is a policy")
	}
}
