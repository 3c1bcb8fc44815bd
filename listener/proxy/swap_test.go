package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	pace     = 50 * time.Millisecond
	sessions = 200
)

// talker is a line session that checks the sequence of the answers; window lines are under way at a time.
func talk(p *Proxy, window int, stop <-chan struct{}, count *atomic.Int64) error {
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()

	r := bufio.NewReader(c)
	for n := 0; ; n += window {
		select {
		case <-stop:
			return nil
		default:
		}
		c.SetDeadline(time.Now().Add(2 * patience))
		var out strings.Builder
		for i := range window {
			fmt.Fprintf(&out, "%d\n", n+i)
		}
		if _, err := io.WriteString(c, out.String()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		for i := range window {
			got, err := r.ReadString('\n')
			if err != nil {
				return fmt.Errorf("answer %d: %w", n+i, err)
			}
			if _, line, _ := strings.Cut(got, " "); line != fmt.Sprintf("%d\n", n+i) {
				return fmt.Errorf("answer %q to line %d", got, n+i)
			}
			count.Add(1)
		}
		time.Sleep(pace) // not to wait for anything: sessions are idle most of the time
	}
}

func TestLineSessionsOutliveSwaps(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy Policy
		window int
		swap   func(t *testing.T, p *Proxy, from, to *server)
	}{
		{"overlap", PolicyDrain, 5, func(t *testing.T, p *Proxy, from, to *server) {
			if o := move(t, p, to); o.Stayed != 0 {
				t.Fatalf("%d sessions were not moved", o.Stayed)
			}
			from.leave()
		}},
		{"exclusive", PolicyResume, 1, func(t *testing.T, p *Proxy, from, to *server) {
			o, err := p.Drain(context.Background(), generous)
			if err != nil || o.Stayed != 0 {
				t.Fatalf("drain: %+v, %v", o, err)
			}
			from.leave()
			if o := move(t, p, to); o.Stayed != 0 {
				t.Fatalf("%d sessions were not moved", o.Stayed)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := started(t, Config{Policy: c.policy})
			now := newServer(t, 1, lines)
			p.Serve(now.backend())
			stop := make(chan struct{})
			var count atomic.Int64
			var group sync.WaitGroup
			for range sessions {
				group.Go(func() {
					if err := talk(p, c.window, stop, &count); err != nil {
						t.Errorf("a session died: %v", err)
					}
				})
			}
			finish := sync.OnceFunc(func() { close(stop); group.Wait() })
			defer finish()
			await(t, "all sessions", func() bool {
				s := p.Stats()
				return s.Sessions == sessions && s.Parked == 0 && count.Load() >= sessions || t.Failed()
			})
			for gen := 2; gen <= swaps+1; gen++ {
				before := count.Load()
				await(t, "lines between swaps", func() bool { return count.Load() > before+sessions/10 || t.Failed() })
				next := newServer(t, gen, lines)
				c.swap(t, p, now, next)
				now = next
			}
			finish()
			s := p.Stats()
			if s.InFlight != 0 || s.Reset != 0 || s.Stayed != 0 || s.Unconfirmed != 0 {
				t.Errorf("stats: %+v", s)
			}
			if s.Moved+s.Resumed < swaps*sessions*9/10 {
				t.Errorf("only %d moved and %d resumed", s.Moved, s.Resumed)
			}
		})
	}
}
