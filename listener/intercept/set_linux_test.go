package intercept

import (
	"context"
	"strings"
	"testing"

	"github.com/upgrader/upgrader/listener"
)

// TestForSet swaps a real guest for another on the lanes of a real Set.
func TestForSet(t *testing.T) {
	if err := Supported(); err != nil {
		t.Skipf("seccomp user notification: %v", err)
	}
	held := newLanes(t) // only to look at processes
	set := listener.NewSet(listener.Config{Held: func(_ int, inode uint64) bool {
		held.mu.Lock()
		defer held.mu.Unlock()
		return held.heldLocked(inode)
	}})
	defer func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	}()
	addr := free(t, "")
	start := func(gen int, role string) *guest {
		h := &watched{Handler: ForSet(set, gen), lanes: held}
		return startGuest(t, guestOptions{Handler: h}, role, "tcp4", addr)
	}
	first := start(1, "again") // bind, close, bind
	if got := strings.Fields(first.expect("ready")); got[0] != got[1] {
		t.Errorf("another lane: %v", got)
	}
	dial(t, "tcp4", addr, "one")
	second := start(2, "listen")
	second.expect("ready")
	if e := second.event("listen"); e.Outcome != Listened || e.Err != nil {
		t.Errorf("%+v", e)
	}
	if err := set.Steer(2); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Settle(context.Background(), 1, listener.SettleOptions{}); err != nil {
		t.Fatal(err)
	}
	first.finish()
	set.Retire(1)
	for range 20 {
		dial(t, "tcp4", addr, "two")
	}
	third := start(3, "twice")
	if got := third.expect("second"); got != "true" {
		t.Errorf("a second bind: EADDRINUSE is %s", got)
	}
	third.finish()
	set.Abandon(3)
	dial(t, "tcp4", addr, "still two")
	second.finish()
}

// watched notes which processes ask.
type watched struct {
	Handler
	lanes *lanes
}

func (w *watched) Bind(r Request) (Injection, error) {
	w.lanes.mu.Lock()
	w.lanes.guests[r.Tgid] = true
	w.lanes.mu.Unlock()
	return w.Handler.Bind(r)
}
