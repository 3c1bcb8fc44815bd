package upgrader

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/upgrader/upgrader/upgrader/ready"
)

// closed reports whether a channel is.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A generation that does not reach for the segment is left alone at first.
func TestPassageHeadStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPassage()
		p.launched()
		time.Sleep(headStart - time.Millisecond)
		synctest.Wait()
		if closed(p.due) {
			t.Error("the second phase begins before the head start is over")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if !closed(p.due) || closed(p.hurry) {
			t.Errorf("after it the second phase begins: %v, in a hurry: %v", closed(p.due), closed(p.hurry))
		}
		p.begin() // again
		(*passage)(nil).launched()
	})
}

// A generation is not late while we keep it from the segment.
func TestKeptIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &Service{facts: make(chan func()), run: ctx, swap: &swap{}, inheritance: &inheritance{assuming: true}} // which keeps a failed start from more
		s.config.Ready.Kind, s.config.ReadyTimeout = ready.Notify, time.Minute
		g := &generation{recipe: &recipe{}, passage: newPassage(), run: ctx}
		s.starting = g
		began := time.Now()
		s.awaitReady(g)
		(<-s.facts)()
		if s.swap.late || !closed(g.passage.hurry) || time.Since(began) != time.Minute {
			t.Errorf("late: %v, in a hurry: %v, after %v", s.swap.late, closed(g.passage.hurry), time.Since(began))
		}
		if err := g.passage.settle(nil, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		(<-s.facts)()
		if !s.swap.late || time.Since(began) != 2*time.Minute {
			t.Errorf("late: %v, after %v", s.swap.late, time.Since(began))
		}
	})
}

// Who is ready before the snapshot is complete waits for it; so do the clients
// of proxies, and then it is made in a hurry.
func TestTooEarly(t *testing.T) {
	for name, c := range map[string]struct {
		proxies []*proxied
		hurry   bool
	}{"listening": {}, "behind a proxy": {proxies: make([]*proxied, 1), hurry: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, g := &Service{}, &generation{passage: newPassage()}
				s.proxies.all = c.proxies
				if !s.tooEarly(g) || !g.early {
					t.Error("it is not too early")
				}
				if closed(g.passage.due) == c.hurry || closed(g.passage.hurry) != c.hurry {
					t.Errorf("the second phase begins: %v, in a hurry: %v", closed(g.passage.due), closed(g.passage.hurry))
				}
				<-g.passage.hurry // in the end, in any case
				if err := g.passage.settle(nil, func() error { return nil }); err != nil || s.tooEarly(g) || g.early {
					t.Errorf("it is too early when the snapshot is complete, %v", err)
				}
			})
		})
	}
}

// settled waits in n goroutines and returns what they got, once settle was called.
func settled(p *passage, n int, settle func()) []error {
	got := make([]error, n)
	var waiters sync.WaitGroup
	for i := range n {
		waiters.Go(func() { got[i] = p.reach() })
	}
	<-p.hurry // somebody waits
	settle()
	waiters.Wait()
	return got
}

func TestPassage(t *testing.T) {
	failed := errors.New("failed")
	for name, c := range map[string]struct {
		shut          bool
		failed, grant error
		granted       int
		want          error
	}{
		"open":              {granted: 1},
		"failed":            {failed: failed, want: failed},
		"no lease":          {grant: failed, granted: 1, want: failed},
		"shut":              {shut: true, want: errShut},
		"shut, then failed": {shut: true, failed: failed, want: failed},
	} {
		t.Run(name, func(t *testing.T) {
			p, granted := newPassage(), 0
			if !p.closed() {
				t.Error("it is open from the start")
			}
			ended := make(chan struct{})
			got := settled(p, 3, func() {
				if c.shut {
					go func() { p.close(); close(ended) }()
					for shut := false; !shut; {
						p.mu.Lock()
						shut = p.shut
						p.mu.Unlock()
					}
				}
				if err := p.settle(c.failed, func() error { granted++; return c.grant }); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("settled with %v, want %v", err, c.want)
				}
			})
			for _, err := range got {
				if (err == nil) != (c.want == nil) || err != nil && err != syscall.ENOSYS {
					t.Errorf("a guest got %v", err)
				}
			}
			if granted != c.granted || p.closed() != (c.want != nil) {
				t.Errorf("granted %d times, closed: %v", granted, p.closed())
			}
			if c.shut {
				<-ended
			}
			p.close() // late: it changes nothing
			if p.closed() != (c.want != nil) {
				t.Errorf("closed: %v, after it was shut late", p.closed())
			}
		})
	}
	var none *passage
	if none.closed() || none.wait() != nil || none.reach() != nil {
		t.Error("no passage is not open")
	}
	none.close()
}
