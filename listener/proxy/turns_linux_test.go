//go:build !goroutines

package proxy

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// No more than Limits.Moves sessions have two servers at a time, and all move in the end.
func TestMovesInTurns(t *testing.T) {
	const clients = 40
	p := started(t, Config{Policy: PolicyDrain, Limits: Limits{Moves: 1}}) // of each loop
	done := make(chan struct{})
	var arrived, released atomic.Int64
	leave := make(chan struct{}, clients)
	p.Serve(newServer(t, 1, func(s *server, c net.Conn) {
		io.Copy(io.Discard, c) // to the half-close
		select {
		case <-leave:
		case <-s.quit:
		}
	}).backend())
	var all []net.Conn
	for range clients {
		all = append(all, connect(t, p))
	}
	await(t, "a server for each", func() bool { s := p.Stats(); return s.Sessions == clients && s.Parked == 0 })
	most := int64(len(p.plane.loops))
	next := newServer(t, 2, func(s *server, c net.Conn) {
		if n := arrived.Add(1); n > released.Load()+most {
			t.Errorf("client %d came when %d had left", n, released.Load())
		}
		lines(s, c)
	})
	go func() {
		defer close(done)
		if o, err := p.Move(t.Context(), next.backend(), generous); err != nil || o.Stayed != 0 {
			t.Errorf("%+v, %v", o, err)
		}
	}()
	for range clients {
		await(t, "one that moves", func() bool { return arrived.Load() > released.Load() })
		released.Add(1)
		leave <- struct{}{}
	}
	<-done
	if n := p.Stats().Moved; n != clients {
		t.Errorf("%d have moved", n)
	}
	for _, c := range all {
		if line := ask(t, c, "x"); line != "2 x" {
			t.Errorf("got %q", line)
		}
	}
}
