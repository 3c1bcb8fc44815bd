package shmbridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// newTestPage returns a page in memory of our own.
func newTestPage(t testing.TB, s State) *Page {
	t.Helper()
	p, err := NewPage(aligned(format(1<<20, s, [16]byte{1})))
	must(t, err)
	return p
}

// aligned returns a copy that begins at a multiple of 8, as a mapping does.
func aligned(b []byte) []byte {
	words := make([]uint64, PageSize/8)
	c := unsafeBytes(words)
	copy(c, b)
	return c
}

func wordIs(t *testing.T, p *Page, g uint32, s State) {
	t.Helper()
	if got, state := unword(p.load(atWord)); got != g || state != s {
		t.Fatalf("generation %d is %v, want %d %v", got, state, g, s)
	}
}

func TestLeaseLife(t *testing.T) {
	p := newTestPage(t, Fresh)
	now := time.Unix(1700000000, 5)
	must(t, p.grant(1, 0))
	wordIs(t, p, 1, Live)
	must(t, p.grant(1, 11)) // once more, now with its pid
	must(t, p.take(1, 111, 7))
	must(t, p.save(1, 42, now))
	wordIs(t, p, 1, Saved)
	s, err := p.Status()
	must(t, err)
	want := Status{Generation: 1, State: Saved, Pid: 111, Found: Fresh, Managed: true, Saves: 1, Total: 1, SavedAt: now, Checksum: 42, Schema: 7}
	if s != want {
		t.Fatalf("got %+v, want %+v", s, want)
	}
	must(t, p.resume(1))
	wordIs(t, p, 1, Live)
	must(t, p.save(1, 43, now))
	must(t, p.save(1, 44, now))

	must(t, p.take(2, 222, 0)) // nobody writes: it needs no grant
	wordIs(t, p, 2, Live)
	if s, err = p.Status(); err != nil || s.Found != Saved || s.Schema != 7 || s.Saves != 0 || s.Total != 3 {
		t.Fatalf("got %+v, %v", s, err)
	}
	mustBe(t, p.take(3, 333, 0), ErrBusy)
	must(t, p.grant(3, 0)) // the upgrader says so
	must(t, p.take(3, 333, 0))
	if s, err = p.Status(); err != nil || s.Found != Unsaved {
		t.Fatalf("got %+v, %v", s, err)
	}
}

func TestStragglerIsVoid(t *testing.T) {
	p := newTestPage(t, Fresh)
	must(t, p.take(1, 1, 0))
	must(t, p.grant(2, 2))
	must(t, p.take(2, 2, 5))
	before, err := p.Status()
	must(t, err)
	for what, f := range map[string]func() error{
		"save":    func() error { return p.save(1, 9, time.Now()) },
		"resume":  func() error { return p.resume(1) },
		"release": func() error { return p.release(1) },
		"take":    func() error { return p.take(1, 1, 9) },
		"grant":   func() error { return p.grant(1, 1) },
		"valid":   func() error { return p.holds("write", 1) },
		"declare": func() error { return p.declare(1, 9) },
	} {
		if err := f(); !errors.Is(err, ErrVoid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s, err := p.end(1, ExitClean); err != nil || s != Live {
		t.Errorf("end: %v, %v", s, err)
	}
	if after, err := p.Status(); err != nil || after != before {
		t.Fatalf("got %+v, %v, want %+v", after, err, before)
	}
}

// A straggler that loses the race between its check and its save must leave the successor's words alone.
func TestSaveAgainstGrant(t *testing.T) {
	for range 200 {
		p := newTestPage(t, Fresh)
		must(t, p.take(1, 1, 0))
		var group sync.WaitGroup
		var saved error
		group.Go(func() { saved = p.save(1, 1, time.Now()) })
		group.Go(func() {
			if err := p.grant(2, 2); err != nil {
				panic(err)
			}
		})
		group.Wait()
		s, err := p.Status()
		must(t, err)
		wordIs(t, p, 2, Live)
		if want := map[bool]State{true: Saved, false: Unsaved}[saved == nil]; s.Found != want || s.Checksum != 0 || s.Pid != 2 {
			// a save that came first and was then overtaken in its report is void for the guest, and found saved
			if !(errors.Is(saved, ErrVoid) && s.Found == Saved) {
				t.Fatalf("save said %v, the successor has %+v", saved, s)
			}
		}
	}
}

func TestEndedMatrix(t *testing.T) {
	for _, test := range []struct {
		state, found State
		managed      bool
		how          Exit
		want         State
	}{
		{Live, Fresh, false, ExitClean, Saved}, {Live, Fresh, false, ExitCrash, Unsaved}, {Live, Fresh, false, ExitNeverRan, Fresh},
		{Live, Saved, false, ExitClean, Saved}, {Live, Saved, false, ExitCrash, Unsaved}, {Live, Saved, false, ExitNeverRan, Saved},
		{Live, Unsaved, false, ExitClean, Saved}, {Live, Unsaved, false, ExitCrash, Unsaved}, {Live, Unsaved, false, ExitNeverRan, Unsaved},
		{Live, Fresh, true, ExitClean, Unsaved}, {Live, Saved, true, ExitCrash, Unsaved}, {Live, Saved, true, ExitNeverRan, Unsaved},
		{Saved, Fresh, true, ExitClean, Saved}, {Saved, Fresh, true, ExitCrash, Saved}, {Saved, Fresh, true, ExitNeverRan, Saved},
		{Unsaved, Saved, true, ExitClean, Unsaved}, {Unsaved, Saved, true, ExitCrash, Unsaved}, {Unsaved, Saved, false, ExitNeverRan, Unsaved},
		{Fresh, Fresh, false, ExitClean, Fresh}, {Fresh, Fresh, false, ExitCrash, Fresh}, {Fresh, Fresh, false, ExitNeverRan, Fresh},
	} {
		if got := ended(test.state, test.found, test.managed, test.how); got != test.want {
			t.Errorf("%+v: got %v", test, got)
		}
	}
}

func TestEndedIsOver(t *testing.T) {
	for _, managed := range []bool{false, true} {
		p := newTestPage(t, Saved)
		must(t, p.grant(1, 0))
		if managed {
			must(t, p.take(1, 1, 0))
		}
		if _, err := p.end(1, ExitCrash); err != nil {
			t.Fatal(err)
		}
		wordIs(t, p, 1, Unsaved)
		mustBe(t, p.take(1, 1, 0), ErrVoid)
		mustBe(t, p.save(1, 0, time.Now()), ErrVoid)
		must(t, p.grant(2, 0))
	}
}

func TestRelease(t *testing.T) {
	p := newTestPage(t, Saved)
	must(t, p.take(1, 1, 0))
	must(t, p.release(1))
	wordIs(t, p, 1, Unsaved)
	mustBe(t, p.resume(1), ErrVoid)
	must(t, p.take(2, 2, 0))
	must(t, p.save(2, 0, time.Now()))
	must(t, p.release(2))
	wordIs(t, p, 2, Saved)
	mustBe(t, p.save(2, 0, time.Now()), ErrVoid)
	mustBe(t, p.take(2, 2, 0), ErrVoid)
}

func TestRestoreMoves(t *testing.T) {
	p := newTestPage(t, Fresh)
	must(t, p.take(1, 1, 5))
	must(t, p.grant(2, 2))
	must(t, p.take(2, 2, 6))
	mustBe(t, second(p.begin(2, restored{number: 9})), ErrVoid)
	if s, _ := p.Status(); s.Restoring {
		t.Fatal("a refused restore has begun")
	}
	r := restored{number: 9, state: Saved, checksum: 8, schema: 5, savedAt: 1}
	g, err := p.begin(0, r)
	if err != nil || g != 3 {
		t.Fatal(g, err)
	}
	mustBe(t, p.grant(4, 0), ErrRestoring)
	mustBe(t, p.take(4, 4, 0), ErrRestoring)
	mustBe(t, p.save(2, 0, time.Now()), ErrVoid)
	if g, err = p.begin(0, r); err != nil || g != 4 { // it was cut short, and is done again
		t.Fatal(g, err)
	}
	must(t, p.finish(g, r))
	wordIs(t, p, 4, Saved)
	mustBe(t, p.resume(2), ErrVoid)
	mustBe(t, p.take(4, 4, 0), ErrVoid) // it is for whom it is granted
	must(t, p.grant(4, 4))
	s, err := p.Status()
	must(t, err)
	if s.Found != Saved || s.Schema != 5 || s.Snapshot != 9 || s.Restoring {
		t.Fatalf("%+v", s)
	}
	must(t, p.take(4, 4, 0))
}

func second(_ uint32, err error) error { return err }

func TestPageOfLiveSnapshotIsUnsaved(t *testing.T) {
	p := newTestPage(t, Fresh)
	g, err := p.begin(0, restored{number: 1, state: Live})
	must(t, err)
	must(t, p.finish(g, restored{number: 1, state: Live}))
	wordIs(t, p, g, Unsaved)
}

func TestAdopt(t *testing.T) {
	boot, other := [16]byte{1}, [16]byte{2}
	for _, test := range []struct {
		alive bool
		last  uint32
		base  uint32
		want  State
	}{
		{alive: true, last: 0, base: 7, want: Live},
		{alive: false, last: 0, base: 7, want: Unsaved},
		{alive: true, last: 7, base: 0, want: Live}, // the engine's count goes on
		{alive: true, last: 9, base: 0, want: Live},
		{alive: false, last: 3, base: 4, want: Unsaved},
	} {
		p := newTestPage(t, Fresh)
		must(t, p.take(7, 70, 0))
		base, err := p.adopt(other, test.alive, test.last, 99)
		must(t, err)
		if base != test.base {
			t.Errorf("%+v: base %d", test, base)
		}
		wordIs(t, p, 7, test.want)
		if p.bootID() != other || p.bootID() == boot || p.load(atUpgrader) != 99 {
			t.Errorf("%+v: boot %x, upgrader %d", test, p.bootID(), p.load(atUpgrader))
		}
	}
}

func TestPageRefuses(t *testing.T) {
	put := func(at int, v uint64) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint64(b[at:], v) }
	}
	for name, test := range map[string]struct {
		change func([]byte)
		want   error
	}{
		"magic":        {put(atMagic, 1), ErrPage},
		"version":      {put(atVersion, 2), ErrVersion},
		"no size":      {put(atSize, 0), ErrPage},
		"huge":         {put(atSize, 1<<62), ErrPage},
		"no state":     {put(atWord, 0), ErrPage},
		"state 5":      {put(atWord, 5), ErrPage},
		"live nobody":  {put(atWord, uint64(Live)), ErrPage},
		"no record":    {put(atWord, word(3, Saved)), ErrPage},
		"found is bad": {func(b []byte) { put(atWord, word(3, Saved))(b); put(record(3), 3)(b) }, ErrPage},
	} {
		b := aligned(format(1<<20, Fresh, [16]byte{}))
		test.change(b)
		if _, err := NewPage(b); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewPage(make([]byte, 8)); !errors.Is(err, ErrPage) {
		t.Error(err)
	}
}

// Whatever lies on a page, no move of it panics or hangs, and errors are those that are documented.
func FuzzPage(f *testing.F) {
	f.Add(format(1<<20, Fresh, [16]byte{}))
	live := newTestPage(f, Fresh)
	must(f, live.take(1, 1, 1))
	f.Add(append([]byte(nil), live.bytes...))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &Page{bytes: aligned(b), flush: func() error { return nil }}
		moves := []func() error{
			func() error { _, err := p.Status(); return err },
			func() error { _, err := p.Base(); return err },
			func() error { _, err := p.SegmentSize(); return err },
			func() error { _, err := NewPage(p.bytes); return err },
			func() error { _, err := p.adopt([16]byte{}, false, 0, 1); return err },
			func() error { return p.grant(1, 1) },
			func() error { return p.take(1, 1, 1) },
			func() error { return p.save(1, 1, time.Now()) },
			func() error { return p.resume(1) },
			func() error { return p.release(1) },
			func() error { _, err := p.end(1, ExitClean); return err },
			func() error { _, err := p.begin(0, restored{}); return err },
			func() error { return p.finish(1, restored{}) },
		}
		known := []error{ErrPage, ErrVersion, ErrVoid, ErrBusy, ErrRestoring}
		for i, move := range moves {
			err := move()
			ok := err == nil
			for _, k := range known {
				ok = ok || errors.Is(err, k)
			}
			if !ok {
				t.Fatal(fmt.Errorf("move %d: %w", i, err))
			}
		}
	})
}
