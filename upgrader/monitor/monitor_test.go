package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/upgrader/upgrader/upgrader/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func shop(generation int) control.Status {
	return control.Status{
		Name: "shop", State: "serving", Since: noon, Started: noon,
		Generations: []control.Generation{{Number: generation, State: control.GenerationServing}},
		Claims:      []control.Claim{{Address: "tcp://:80", InFlight: 3, Lanes: []control.LaneInfo{{Generation: generation, State: "steered", Queue: 2}, {Generation: 9, Queue: -1}}}},
	}
}

func swapped(b *Board, generation int, last string) {
	for i, what := range []string{"swapping", "starting", "ready", "steered", "committed", "leaving", last} {
		b.Happened(control.Event{Time: noon.Add(time.Duration(i) * time.Second), What: what, State: "probation", Generation: generation})
	}
}

func TestText(t *testing.T) {
	b := &Board{}
	b.Happened(control.Event{Time: noon, What: "swapping", State: "serving", Generation: 2}) // before it is known whose it is
	b.Know([]control.Status{shop(1)})
	all := strings.Join(b.Text(200, 100, noon), "\n")
	for _, want := range []string{"shop", "serving for 0s", "1 steered (2 queued)", "THE SWAP UNDER WAY", "+0s  swapping generation 2"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
	swapped(b, 2, "proved")
	st := shop(2)
	st.Verdicts = []control.Verdict{{Swap: 1, Verdict: control.Committed, Start: noon}}
	b.Know([]control.Status{st})
	all = strings.Join(b.Text(200, 100, noon), "\n")
	for _, want := range []string{"THE LAST SWAP", "+6s  proved generation 2", "SWAP  VERDICT"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
	small := b.Text(30, 18, noon)
	if len(small) > 18 || !slices.ContainsFunc(small, func(l string) bool { return strings.Contains(l, "proved") }) || slices.ContainsFunc(small, func(l string) bool { return len(l) > 30 }) {
		t.Errorf("on a small screen:\n%s", strings.Join(small, "\n"))
	}
	for height := range 40 { // whatever somebody makes of a window
		for _, width := range []int{0, 1, 80} {
			if lines := b.Text(width, height, noon); len(lines) > height {
				t.Fatalf("%d lines on a screen of %d", len(lines), height)
			}
		}
	}
}

func TestSeveralServices(t *testing.T) {
	b := &Board{}
	other := shop(7)
	other.Name = "api\x1b[2J"
	b.Know([]control.Status{shop(1), other})
	b.Happened(control.Event{Time: noon.Add(time.Hour), What: "died", Service: "shop", State: "down"})
	lines := b.Text(200, 100, noon)
	all := strings.Join(lines, "\n")
	if strings.Contains(all, "\x1b") {
		t.Errorf("a name moves the cursor: %q", all)
	}
	table := lines[2:5]
	if !strings.HasPrefix(table[0], "SERVICE") || !slices.Equal(strings.Fields(table[1])[1:], []string{"serving", "7", "2", "3", "-"}) || !strings.Contains(table[2], "down") {
		t.Errorf("the table is\n%s", strings.Join(table, "\n"))
	}
	if strings.Index(all, "service   shop") > strings.Index(all, "service   api") {
		t.Errorf("what changed last is not on top:\n%s", all)
	}
	b.Know([]control.Status{shop(1)})
	if len(b.services) != 1 || len(b.services[0].steps) != 1 {
		t.Errorf("%+v", b.services)
	}
}

func TestLines(t *testing.T) {
	b := &Board{}
	b.Know([]control.Status{shop(1)})
	e := control.Event{Time: noon, What: "ready", Service: "shop", Generation: 2, Pid: 7, Took: 81 * time.Millisecond, Message: "a\nb", Error: "c"}
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		l := &Lines{Out: &out, JSON: asJSON}
		for _, after := range []bool{false, false, true} {
			if err := errors.Join(l.Happened(e), l.Show(b, noon, after)); err != nil {
				t.Fatal(err)
			}
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if !asJSON {
			if len(lines) != 4 || !strings.HasSuffix(lines[0], "shop: ready generation 2 (pid 7), took 81ms: a?b: c") || !strings.Contains(lines[1], "generation 1 serves, 2 queued, 3 in flight") {
				t.Errorf("%q", lines)
			}
			continue
		}
		if len(lines) != 5 {
			t.Errorf("%q", lines)
		}
		for _, text := range lines {
			if !json.Valid([]byte(text)) {
				t.Errorf("%q", text)
			}
		}
	}
}

// upgrader is a source that leaves when it is told so.
type upgrader struct {
	generation int
	events     chan control.Event
	leave      chan error
}

func (u *upgrader) Status(context.Context) ([]control.Status, error) {
	return []control.Status{shop(u.generation)}, nil
}

func (u *upgrader) Events(ctx context.Context, f func(control.Event) error) error {
	for {
		select {
		case e := <-u.events:
			if err := f(e); err != nil {
				return err
			}
		case err := <-u.leave:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// display notes what it is told.
type display struct {
	log  []string
	fail error
}

func (d *display) Happened(e control.Event) error {
	d.log = append(d.log, e.What)
	return d.fail
}

func (d *display) Show(b *Board, _ time.Time, after bool) error {
	d.log = append(d.log, fmt.Sprintf("%s %v", b.services[0].serves(), after))
	return d.fail
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		u := &upgrader{generation: 1, events: make(chan control.Event), leave: make(chan error)}
		d := &display{}
		again := make(chan struct{})
		ended := make(chan error)
		go func() { ended <- Follow(ctx, u, d, Config{Every: time.Hour, Again: again}) }()
		synctest.Wait()
		u.events <- control.Event{What: "swapping"}
		u.events <- control.Event{What: "ready"} // within the same look
		time.Sleep(time.Second)
		again <- struct{}{}
		u.leave <- fmt.Errorf("gone: %w", control.ErrLeft) // to another one, which is there
		time.Sleep(time.Second)
		u.generation = 2
		u.events <- control.Event{What: "committed"}
		time.Sleep(time.Hour)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		want := []string{"1 false", "swapping", "ready", "1 true", "1 false", "committed", "2 true", "2 false"}
		if !slices.Equal(d.log, want) {
			t.Errorf("%q, want %q", d.log, want)
		}
	})
}

func TestFollowToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upgrader{leave: make(chan error)}
		ended := make(chan error)
		go func() { ended <- Follow(t.Context(), u, &display{}, Config{}) }()
		u.leave <- nil
		for left := true; left; {
			select {
			case u.leave <- control.ErrNotRunning:
			case err := <-ended:
				if !errors.Is(err, control.ErrNotRunning) {
					t.Error(err)
				}
				left = false
			}
		}
		failed := errors.New("no terminal")
		go func() { ended <- Follow(t.Context(), u, &display{fail: failed}, Config{}) }()
		if err := <-ended; !errors.Is(err, failed) {
			t.Error(err)
		}
	})
}
