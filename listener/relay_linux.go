package listener

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// dialTimeout is how long a client that is relayed waits to get into a full queue.
const dialTimeout = 30 * time.Second

// relayLocked relays an accepted connection (it takes fd) to whoever the claim is steered to.
func (s *system) relayLocked(l *Lane, fd int) {
	f := os.NewFile(uintptr(fd), "late client")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		s.note(RescueLost, l.claim, l.gen, fmt.Errorf("listener: relay a late client: %w", err))
		return
	}
	c, gen := l.claim, l.gen
	network, addr := c.at.network, c.at.dial()
	s.relays.Add(1)
	s.work.Go(func() {
		defer s.relays.Add(-1)
		err := relay(s.ctx, conn, network, addr)
		kind := Rescued
		if err != nil {
			kind = RescueLost
		}
		s.cfg.Observe(Event{Kind: kind, Claim: c, Generation: gen, Err: err})
	})
}

// halfConn is a stream connection whose two directions end one by one.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

// relay copies both ways until both have ended; it takes conn. The error is that of connecting.
func relay(ctx context.Context, conn net.Conn, network, addr string) error {
	defer conn.Close()
	d := net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	server, err := d.DialContext(ctx, network, addr)
	if err != nil {
		reset(conn)
		return fmt.Errorf("listener: relay a late client: %w", err)
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() {
		reset(conn)
		reset(server)
		conn.Close()
		server.Close()
	})()
	a, okA := conn.(halfConn)
	b, okB := server.(halfConn)
	if !okA || !okB {
		return fmt.Errorf("listener: relay a late client: %T to %T", conn, server)
	}
	toClient := make(chan struct{})
	go func() {
		defer close(toClient)
		pipe(a, b)
	}()
	pipe(b, a)
	<-toClient
	return nil
}

// pipe copies one direction. Its end is passed on as an end, and an error as a reset: an answer that broke off must not look
// like a whole one.
func pipe(to, from halfConn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		reset(from)
		to.Close()
		from.Close()
		return
	}
	_ = to.CloseWrite() // already closed by the other direction's error
}

// reset makes Close of a TCP connection send RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it is closed anyway
	}
}
