package upgrader

import (
	"errors"
	"sync"
	"syscall"
	"testing"
)

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
