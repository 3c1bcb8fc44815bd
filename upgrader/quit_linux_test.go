package upgrader

import (
	"context"
	"io"
	"slices"
	"testing"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
)

// confirming says, whoever is asked, that it has saved, and lets it linger.
type confirming struct{}

func (confirming) Hold(process.Identity) (io.Closer, error) { return io.NopCloser(nil), nil }

func (confirming) Ask(_ context.Context, main process.Identity, why QuitReason) (Answer, error) {
	if why == QuitStop {
		return AnswerNone, main.Signal(15)
	}
	return AnswerConfirmed, nil
}

// TestConfirmedLingers: a predecessor that has confirmed lingers beside its
// successor, with the memory mapped. It is ended before that is put back.
func TestConfirmedLingers(t *testing.T) {
	c := testConfig(t, "add ready stay")
	c.Strategy, c.Quit = Exclusive, confirming{}
	spec, err := shmbridge.ParseSpec("memfd:lingering,size=8192")
	if err != nil {
		t.Fatal(err)
	}
	c.Memory = &Memory{Spec: spec}
	r := runService(t, c)
	r.event(EventReady, 1)

	setPlan(t, c, "scribble exit=3")
	r.verdict(r.swap(), control.RolledBack)
	if n := r.count(); n != 2 {
		t.Errorf("rolled back, the second writer counted to %d", n)
	}
	r.mu.Lock()
	at := func(what string, g int) int {
		return slices.IndexFunc(r.events, func(e Event) bool { return e.What == what && e.Generation == g })
	}
	order := []int{at(EventConfirmed, 1), at(EventStarting, 2), at(EventGone, 1), at(EventRestored, 3)}
	r.mu.Unlock()
	if order[0] < 0 || !slices.IsSorted(order) {
		t.Errorf("confirmed, successor started, predecessor gone, restored: events %v\n%s", order, r.told())
	}
	r.s.Stop()
	r.end()
}

// count is the first byte of the memory.
func (r *running) count() (n int) {
	r.t.Helper()
	var m *memory
	if err := r.s.ask(r.t.Context(), func() { m = r.s.memory }); err != nil {
		r.t.Fatal(err)
	}
	if err := m.segment.Look(func(b []byte) error { n = int(b[0]); return nil }); err != nil {
		r.t.Fatal(err)
	}
	return n
}
