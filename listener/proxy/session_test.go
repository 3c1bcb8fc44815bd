package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// collect reads to the client's end, and then answers with the number of bytes.
func collect(s *server, c net.Conn) {
	n, err := io.Copy(io.Discard, c)
	if err == nil {
		fmt.Fprintf(c, "%d bytes\n", n)
	}
}

func TestHalfClose(t *testing.T) {
	p := started(t, Config{})
	p.Serve(newServer(t, 1, collect).backend())
	c := connect(t, p)
	if _, err := c.Write(make([]byte, 300<<10)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, want := hear(t, c), fmt.Sprintf("%d bytes", 300<<10); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := ended(c); got != "end" {
		t.Errorf("the connection: %s", got)
	}
	await(t, "the session's end", func() bool { return p.Stats().Sessions == 0 })
}

func TestServerEndsItsDirectionFirst(t *testing.T) {
	got := make(chan string, 1)
	p := started(t, Config{})
	p.Serve(newServer(t, 1, func(s *server, c net.Conn) {
		io.WriteString(c, "bye\n")
		c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	}).backend())
	c := connect(t, p)
	if line := hear(t, c); line != "bye" {
		t.Errorf("got %q", line)
	}
	if how := ended(c); how != "end" {
		t.Errorf("the connection: %s", how)
	}
	io.WriteString(c, "last words")
	c.CloseWrite()
	if b := <-got; b != "last words" {
		t.Errorf("the server got %q", b)
	}
}

func TestResets(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		p := started(t, Config{})
		s := newServer(t, 1, lines)
		p.Serve(s.backend())
		c := connect(t, p)
		ask(t, c, "1")
		s.kill()
		if how := ended(c); how != "reset" {
			t.Errorf("the connection: %s", how)
		}
	})
	t.Run("client", func(t *testing.T) {
		how := make(chan string, 1)
		p := started(t, Config{})
		p.Serve(newServer(t, 1, func(s *server, c net.Conn) {
			io.WriteString(c, "hello\n")
			how <- ended(c)
		}).backend())
		c := connect(t, p)
		hear(t, c)
		c.SetLinger(0)
		c.Close()
		if got := <-how; got != "reset" {
			t.Errorf("the server's connection: %s", got)
		}
	})
}

// A client that does not read stops its server: what lies in between is bounded.
func TestSlowReader(t *testing.T) {
	const most = 64 << 20
	var sent atomic.Int64
	p := started(t, Config{})
	blocked := make(chan struct{})
	p.Serve(newServer(t, 1, func(s *server, c net.Conn) {
		b := make([]byte, 64<<10)
		for sent.Load() < most {
			c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := c.Write(b)
			sent.Add(int64(n))
			if timeout(err) {
				break
			}
		}
		close(blocked)
		c.SetWriteDeadline(time.Time{})
		for sent.Load() < most {
			n, err := c.Write(b[:min(len(b), int(most-sent.Load()))])
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}).backend())
	c := connect(t, p)
	<-blocked
	if n := sent.Load(); n >= most {
		t.Errorf("%d bytes went nowhere", n)
	}
	n, err := io.Copy(io.Discard, c)
	if err != nil || n != most {
		t.Errorf("got %d bytes of %d: %v", n, most, err)
	}
	if s := p.Stats(); s.BytesDown != most {
		t.Errorf("%d bytes were counted", s.BytesDown)
	}
}

func TestBulkIsExact(t *testing.T) {
	const size = 8 << 20
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i ^ i>>8 ^ i>>16)
	}
	p := started(t, Config{})
	p.Serve(newServer(t, 1, func(s *server, c net.Conn) {
		got, _ := io.ReadAll(c)
		c.Write(got)
	}).backend())
	c := connect(t, p)
	go func() {
		c.Write(want)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, the same: %v, %v", len(got), bytes.Equal(got, want), err)
	}
}

// A server that dies is told apart from one that ends a connection.
func TestDeath(t *testing.T) {
	setup := func(t *testing.T, in InFlight) (*Proxy, *server, *net.TCPConn, *atomic.Int64) {
		var dead atomic.Int64
		p := started(t, Config{InFlight: in, Departed: func(gen int) bool { return int64(gen) <= dead.Load() }})
		s := newServer(t, 1, func(s *server, c net.Conn) {
			for {
				if line := readLine(c); line == "" || line == "die" {
					return
				} else {
					fmt.Fprintf(c, "%d %s\n", s.gen, line)
				}
			}
		})
		p.Serve(s.backend())
		return p, s, connect(t, p), &dead
	}
	t.Run("all answered", func(t *testing.T) {
		p, s, c, dead := setup(t, InFlightReset)
		ask(t, c, "1")
		dead.Store(1)
		s.leave()
		await(t, "a parked session", func() bool { return p.Stats().Parked == 1 })
		io.WriteString(c, "2\n") // waits in the kernel
		p.Serve(newServer(t, 2, lines).backend())
		if got := hear(t, c); got != "2 2" {
			t.Errorf("got %q", got)
		}
		if s := p.Stats(); s.Resumed != 1 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("in flight, reset", func(t *testing.T) {
		p, _, c, dead := setup(t, InFlightReset)
		ask(t, c, "1")
		dead.Store(1)
		io.WriteString(c, "die\n")
		if how := ended(c); how != "reset" {
			t.Errorf("the connection: %s", how)
		}
		if s := p.Stats(); s.InFlight != 1 || s.Reset != 1 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("in flight, resume", func(t *testing.T) {
		p, _, c, dead := setup(t, InFlightResume)
		ask(t, c, "1")
		dead.Store(1)
		io.WriteString(c, "die\n")
		await(t, "a parked session", func() bool { return p.Stats().Parked == 1 })
		p.Serve(newServer(t, 2, lines).backend())
		if got := ask(t, c, "2"); got != "2 2" {
			t.Errorf("got %q", got)
		}
		if s := p.Stats(); s.InFlight != 1 || s.Reset != 0 || s.Resumed != 1 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("refused while nobody serves", func(t *testing.T) {
		p, s, c, dead := setup(t, InFlightReset)
		ask(t, c, "1")
		dead.Store(1)
		s.leave()
		await(t, "a parked session", func() bool { return p.Stats().Parked == 1 })
		p.Refuse()
		if how := ended(c); how != "reset" {
			t.Errorf("the connection: %s", how)
		}
		if how := refused(t, p, ""); how != "reset" {
			t.Errorf("a new connection: %s", how)
		}
		p.Serve(newServer(t, 2, lines).backend())
		if got := ask(t, connect(t, p), "2"); got != "2 2" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("not gone", func(t *testing.T) {
		_, _, c, _ := setup(t, InFlightReset)
		ask(t, c, "1")
		io.WriteString(c, "die\n")
		if how := ended(c); how != "end" {
			t.Errorf("the connection: %s", how)
		}
	})
}

func readLine(c net.Conn) string {
	var got []byte
	var b [1]byte
	for {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return ""
		}
		if b[0] == '\n' {
			return string(got)
		}
		got = append(got, b[0])
	}
}

func TestNoServerYet(t *testing.T) {
	t.Run("waits", func(t *testing.T) {
		p := started(t, Config{})
		c := connect(t, p)
		io.WriteString(c, "1\n")
		await(t, "a parked session", func() bool { return p.Stats().Parked == 1 })
		p.Serve(newServer(t, 1, lines).backend())
		if got := hear(t, c); got != "1 1" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("gives up", func(t *testing.T) {
		p := started(t, Config{Dial: time.Millisecond})
		p.Serve(Backend{1, func(context.Context) (net.Conn, error) { return nil, syscall.EMFILE }})
		if how := refused(t, p, ""); how != "reset" {
			t.Errorf("the connection: %s", how)
		}
	})
	t.Run("descriptors come back", func(t *testing.T) {
		p := started(t, Config{Dial: patience})
		b := newServer(t, 1, lines).backend()
		var n atomic.Int64
		p.Serve(Backend{1, func(ctx context.Context) (net.Conn, error) {
			if n.Add(1) < 4 {
				return nil, syscall.EMFILE
			}
			return b.Dial(ctx)
		}})
		if got := ask(t, connect(t, p), "1"); got != "1 1" {
			t.Errorf("got %q", got)
		}
	})
}

func TestHoldAndResume(t *testing.T) {
	var got atomic.Int64
	p := started(t, Config{})
	p.Serve(newServer(t, 1, func(s *server, c net.Conn) {
		for readLine(c) != "" {
			fmt.Fprintf(c, "%d\n", got.Add(1))
		}
	}).backend())
	c := connect(t, p)
	ask(t, c, "x")
	if o, err := p.Drain(t.Context(), generous); err != nil || o.Done != 1 || o.Stayed != 0 {
		t.Fatalf("%+v, %v", o, err)
	}
	io.WriteString(c, "x\n")
	if o, err := p.Drain(t.Context(), generous); err != nil || o.Done != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	if n := got.Load(); n != 1 {
		t.Errorf("%d lines arrived while held", n)
	}
	p.Resume()
	if line := hear(t, c); line != "2" {
		t.Errorf("got %q", line)
	}
}

// A successor that cannot be reached leaves the session where it is.
func TestMoveToNobody(t *testing.T) {
	p := started(t, Config{Policy: PolicyDrain})
	s := newServer(t, 1, lines)
	p.Serve(s.backend())
	c := connect(t, p)
	ask(t, c, "1")
	o, err := p.Move(t.Context(), Backend{2, func(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED }}, generous)
	if err != nil || o.Stayed != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	if got := ask(t, c, "2"); got != "1 2" {
		t.Errorf("got %q", got)
	}
	if o := move(t, p, s); o.Stayed != 0 { // back
		t.Errorf("%+v", o)
	}
}

// A busy session stays, flows on, and moves by itself when it is quiet.
func TestBusySessionMovesLater(t *testing.T) {
	p := started(t, Config{Policy: PolicyDrain})
	proceed := make(chan struct{})
	p.Serve(newServer(t, 1, func(s *server, c net.Conn) {
		for {
			line := readLine(c)
			if line == "" {
				return
			}
			<-proceed
			fmt.Fprintf(c, "%d %s\n", s.gen, line)
		}
	}).backend())
	c := connect(t, p)
	io.WriteString(c, "1\n")
	await(t, "the line to be sent", func() bool { return p.Stats().BytesUp == 2 })
	next := newServer(t, 2, lines)
	o, err := p.Move(t.Context(), next.backend(), Settle{Quiet: time.Millisecond, Max: 20 * time.Millisecond})
	if err != nil || o.Stayed != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	close(proceed)
	if got := hear(t, c); got != "1 1" {
		t.Errorf("got %q", got)
	}
	await(t, "the move", func() bool { return p.Stats().Moved == 1 })
	if got := ask(t, c, "2"); got != "2 2" {
		t.Errorf("got %q", got)
	}
}
