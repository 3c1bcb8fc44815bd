package listener

import (
	"errors"
	"math"
	"sync"
	"testing"
)

// shares asks n times, and gives how many answers came from each generation.
func shares(t *testing.T, addr string, n int) map[int]int {
	t.Helper()
	const clients = 8
	var mu sync.Mutex
	var work sync.WaitGroup
	got := map[int]int{}
	for range clients {
		work.Go(func() {
			for range n / clients {
				gen, err := ask("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got[gen]++
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return got
}

// TestShare: a share goes to one generation, whatever the number of its lanes,
// and all comes back at the next steer.
func TestShare(t *testing.T) {
	s := newSet(t, Config{})
	c := claim(t, s, "tcp://127.0.0.1:0")
	lane(t, s, c, 1)
	serve(t, s, 1)
	if err := s.Share(2, 10); !errors.Is(err, ErrNoLane) {
		t.Errorf("a share for nobody: %v", err)
	}
	first := lane(t, s, c, 2)
	second, err := s.sys.laneBeside(c, 2)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, 2)
	for _, percent := range []int{0, 100, -1} {
		if err := s.Share(2, percent); err == nil {
			t.Errorf("%d %% is a share", percent)
		}
	}
	const n = 1000
	for _, percent := range []int{1, 10, 50} {
		if err := s.Share(2, percent); err != nil {
			t.Fatal(err)
		}
		if first.Share() != percent || second.Share() != percent || first.Steered() {
			t.Errorf("the lanes have %d and %d %%, want %d", first.Share(), second.Share(), percent)
		}
		got := shares(t, c.Dial(), n)
		want := float64(percent) / 100
		// Eight standard deviations: chance alone does not get there.
		if far := math.Abs(float64(got[2])/n - want); far > 8*math.Sqrt(want*(1-want)/n) {
			t.Errorf("%d %% are %v", percent, got)
		}
	}
	// A member that leaves in between moves no share.
	if err := s.Steer(1); err != nil {
		t.Fatal(err)
	}
	if got := shares(t, c.Dial(), 200); got[1] != 200 || first.Share() != 0 {
		t.Errorf("steered back: %v, and %d %%", got, first.Share())
	}
	if err := s.Share(2, 50); err != nil {
		t.Fatal(err)
	}
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	if got := shares(t, c.Dial(), 200); got[2] != 200 {
		t.Errorf("steered on: %v", got)
	}
}

// TestShareWhileOthersLeave: lanes of generations before come and go while two
// share.
func TestShareWhileOthersLeave(t *testing.T) {
	s := newSet(t, Config{RescueTime: 1})
	c := claim(t, s, "tcp://127.0.0.1:0")
	lane(t, s, c, 1)
	gone := serve(t, s, 1)
	lane(t, s, c, 2)
	serve(t, s, 2)
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	lane(t, s, c, 3)
	serve(t, s, 3)
	if err := s.Share(3, 50); err != nil {
		t.Fatal(err)
	}
	l := hammer(t, 4, "tcp", c.Dial(), 2)
	l.more(t, 200)
	gone.stop()
	s.Retire(1)
	l.more(t, 200)
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	s.Abandon(3)
	eventually(t, "the others have left", func() bool { return len(s.LanesOn(c)) == 1 })
	l.more(t, 200)
	l.verify(t)
}

// TestShareOfUnix: a path leads to one socket.
func TestShareOfUnix(t *testing.T) {
	s := newSet(t, Config{})
	c := claim(t, s, "unix://"+t.TempDir()+"/s")
	lane(t, s, c, 1)
	lane(t, s, c, 2)
	if err := s.Share(2, 50); !errors.Is(err, ErrNoLane) {
		t.Errorf("a share of a path: %v", err)
	}
}

// laneBeside makes a further lane of a generation, as a second bind does.
func (s *system) laneBeside(c *Claim, gen int) (*Lane, error) {
	s.lock()
	defer s.unlock()
	return s.listeningLaneLocked(c, gen, nil, true)
}
