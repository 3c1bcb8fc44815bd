package listener

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is clients that ask all the time.
type load struct {
	done, lost, astray atomic.Int64
	steered            atomic.Int64 // connections that begin now are answered by this generation or a later one
	stop               func()
	first              atomic.Value // of the errors
}

// hammer starts clients on an address.
func hammer(t *testing.T, clients int, network, addr string, gen int) *load {
	l := &load{}
	l.steered.Store(int64(gen))
	stop := make(chan struct{})
	var work sync.WaitGroup
	for range clients {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				want := l.steered.Load()
				got, err := ask(network, addr)
				switch {
				case err != nil:
					l.lost.Add(1)
					l.first.CompareAndSwap(nil, err.Error())
				case int64(got) < want:
					l.astray.Add(1)
				}
				l.done.Add(1)
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		close(stop)
		work.Wait()
	})
	t.Cleanup(l.stop)
	return l
}

func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	from := l.done.Load()
	eventually(t, "the clients go on", func() bool { return l.done.Load() >= from+n })
}

func (l *load) verify(t *testing.T) {
	t.Helper()
	l.stop()
	if l.lost.Load() > 0 || l.astray.Load() > 0 {
		t.Errorf("%d requests: %d lost (first: %v), %d astray", l.done.Load(), l.lost.Load(), l.first.Load(), l.astray.Load())
	}
	t.Logf("%d requests", l.done.Load())
}

// counts is an observer that counts.
type counts struct {
	mu sync.Mutex
	n  map[EventKind]int
	t  *testing.T
}

func count(t *testing.T) *counts { return &counts{n: map[EventKind]int{}, t: t} }

func (c *counts) observe(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[e.Kind]++
}

func (c *counts) of(k EventKind) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[k]
}

func members(s *Set, c *Claim) int {
	s.sys.lock()
	defer s.sys.unlock()
	return len(c.members)
}

// expired tells whether the lanes of all generations before gen are past their rescue time.
func expired(s *Set, gen int) bool {
	s.sys.lock()
	defer s.sys.unlock()
	for _, c := range s.sys.list {
		for _, l := range c.all {
			if l.gen < gen && (l.expires.IsZero() || time.Now().Before(l.expires)) {
				return false
			}
		}
	}
	return true
}

// TestSwapsUnderLoad swaps a service many times while eight clients make new connections: none is lost, none goes to a
// generation that was left. Left lanes are rescued for a while, so that several overlap.
func TestSwapsUnderLoad(t *testing.T) {
	t.Parallel()
	const clients = 8
	for _, c := range []struct {
		name, spec string
		swaps      int
	}{
		{"tcp4", "tcp4://127.0.0.1:0", 50},
		{"tcp6", "tcp6://[::1]:0", 15},
		{"dual stack", "tcp://:0", 15},
		{"unix", "", 25},
		{"udp4", "udp4://127.0.0.1:0", 25},
		{"udp dual stack", "udp://:0", 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := c.spec
			if spec == "" {
				spec = "unix://" + filepath.Join(t.TempDir(), "s")
			}
			events := count(t)
			s := newSet(t, Config{RescueTime: 60 * time.Millisecond, Observe: events.observe})
			cl := claim(t, s, spec)
			lane(t, s, cl, 1)
			old := serve(t, s, 1)
			if err := s.Steer(1); err != nil {
				t.Fatal(err)
			}
			clients := hammer(t, clients, cl.Network(), cl.Dial(), 1)
			for gen := 2; gen <= c.swaps+1; gen++ {
				clients.more(t, 20)
				lane(t, s, cl, gen)
				next := serve(t, s, gen)
				if err := s.Steer(gen); err != nil {
					t.Fatal(err)
				}
				clients.steered.Store(int64(gen))
				if _, err := s.Settle(t.Context(), gen-1, SettleOptions{Quiet: 10 * time.Millisecond, Max: time.Second}); err != nil {
					t.Fatal(err)
				}
				old.stop()
				s.Retire(gen - 1)
				old = next
			}
			clients.verify(t)
			t.Logf("rescued %d", events.of(Rescued))
			if n := events.of(RescueLost) + events.of(Failed); n > 0 {
				t.Errorf("%d could not be rescued", n)
			}
			old.stop()
			// Hurried swaps leave lanes behind; the next calm one takes them along.
			last := c.swaps + 1
			for gen := last + 1; gen <= last+2; gen++ {
				eventually(t, "the rescue times are over", func() bool { return expired(s, gen-1) })
				lane(t, s, cl, gen)
				if err := s.Steer(gen); err != nil {
					t.Fatal(err)
				}
				s.Retire(gen - 1)
			}
			eventually(t, "few lanes are left", func() bool { return members(s, cl) <= 3 })
		})
	}
}

// TestAtRest: when all is quiet there is one lane, at index 0.
func TestAtRest(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{RescueTime: time.Millisecond})
	c := claim(t, s, "tcp4://127.0.0.1:0")
	lane(t, s, c, 1)
	for gen := 2; gen < 8; gen++ {
		lane(t, s, c, gen)
		if err := s.Steer(gen); err != nil {
			t.Fatal(err)
		}
		s.Retire(gen - 1)
		eventually(t, "one lane is left", func() bool { return members(s, c) == 1 && len(s.Lanes(gen-1)) == 0 })
	}
}

// TestWorkers has several lanes in one generation, and overlapping ones.
func TestWorkers(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{RescueTime: 20 * time.Millisecond})
	c := claim(t, s, "tcp4://127.0.0.1:0")
	const workers = 3
	for range workers {
		lane(t, s, c, 1)
	}
	old := serve(t, s, 1)
	if err := s.Steer(1); err != nil {
		t.Fatal(err)
	}
	clients := hammer(t, 4, c.Network(), c.Dial(), 1)
	for gen := 2; gen < 14; gen++ {
		clients.more(t, 20)
		if err := s.Prepare(gen); err != nil {
			t.Fatal(err)
		}
		if n := len(s.Lanes(gen)); n != workers {
			t.Fatalf("generation %d was prepared %d lanes", gen, n)
		}
		if gen%4 == 0 { // a start that fails
			clients.more(t, 20)
			s.Abandon(gen)
			continue
		}
		next := serve(t, s, gen)
		if err := s.Steer(gen); err != nil {
			t.Fatal(err)
		}
		clients.steered.Store(int64(gen))
		for left := gen - 2; left < gen; left++ {
			if len(s.Lanes(left)) == 0 {
				continue
			}
			if _, err := s.Settle(t.Context(), left, SettleOptions{Quiet: 10 * time.Millisecond, Max: time.Second}); err != nil {
				t.Fatal(err)
			}
		}
		old.stop()
		s.Retire(gen - 1)
		s.Retire(gen - 2)
		old = next
	}
	clients.verify(t)
}
