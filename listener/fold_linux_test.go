package listener

import (
	"testing"
	"time"
)

// TestFold has several lanes retire one after the other while their successor
// is steered to: in the end there is one lane, and no client was lost or sent
// to a predecessor on the way.
func TestFold(t *testing.T) {
	for _, spec := range []string{"tcp4://127.0.0.1:0", "tcp6://[::1]:0", "udp://127.0.0.1:0"} {
		t.Run(spec, func(t *testing.T) {
			s := newSet(t, Config{RescueTime: 300 * time.Millisecond})
			c := claim(t, s, spec)
			lane(t, s, c, 1)
			running := serve(t, s, 1)
			l := hammer(t, 4, c.Network(), c.Dial(), 1)
			for gen := 2; gen <= 5; gen++ {
				lane(t, s, c, gen)
				successor := serve(t, s, gen)
				if err := s.Steer(gen); err != nil {
					t.Fatal(err)
				}
				l.steered.Store(int64(gen))
				if _, err := s.Settle(t.Context(), gen-1, SettleOptions{Quiet: 20 * time.Millisecond, Max: 20 * time.Second, Inodes: ownInodes}); err != nil {
					t.Fatal(err)
				}
				running.stop()
				s.Retire(gen - 1)
				running = successor
			}
			eventually(t, "one lane is left", func() bool { return len(s.LanesOn(c)) == 1 })
			l.more(t, 100)
			l.verify(t)
		})
	}
}
