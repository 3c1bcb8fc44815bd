//go:build !goroutines

package proxy

import (
	"slices"
	"testing"
	"time"
)

// Whenever it is looked at, each comes once, not before its time, and not later than a step after it.
func TestWheel(t *testing.T) {
	const idle = 400 * time.Millisecond
	w := newWheel(idle)
	start := int64(1_000_000_000_000)
	due := map[ticket]int64{}
	for i := range int32(50) {
		x, at := ticket{slot: i}, start+int64(idle)+int64(i)*int64(2*time.Millisecond)
		due[x] = at
		w.add(x, at)
	}
	for now := start; now < start+2*int64(idle); now += int64(time.Millisecond) {
		for all, ok := w.turn(now); ok; all, ok = w.turn(now) {
			for _, x := range all {
				at, there := due[x]
				if !there || now < at || now > at+w.step+int64(time.Millisecond) {
					t.Errorf("%v came at %v of %v, known: %v", x, now-start, at-start, there)
				}
				delete(due, x)
			}
		}
	}
	if len(due) > 0 || w.count != 0 {
		t.Errorf("%d never came, count %d", len(due), w.count)
	}
	if _, ok := w.turn(start + int64(time.Hour)); ok {
		t.Error("an empty wheel turns")
	}
}

func TestAlarms(t *testing.T) {
	var a alarms
	var all []*session
	for id, at := range []int64{5, 3, 9, 1, 7, 4, 30, 8} {
		all = append(all, &session{state: state{id: uint64(id)}})
		a.set(all[id], at)
	}
	a.set(all[0], 20) // later
	a.set(all[6], 2)  // sooner
	a.clear(all[1])
	a.clear(all[1]) // it has none
	var order []uint64
	for s := a.due(8); s != nil; s = a.due(8) {
		if s.alarm != 0 {
			t.Errorf("session %d still has an alarm", s.id)
		}
		order = append(order, s.id)
	}
	if want := []uint64{3, 6, 5, 4, 7}; !slices.Equal(order, want) {
		t.Errorf("%v were due, want %v", order, want)
	}
	a.set(all[3], 10) // once more
	if s := a.due(100); s != all[2] {
		t.Errorf("session %d came first of the rest", s.id)
	}
	for _, s := range []*session{all[0], all[3]} {
		a.clear(s)
	}
	if len(a) != 0 {
		t.Errorf("%d are left", len(a))
	}
}

func TestMeasureHeader(t *testing.T) {
	const v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x02ab"
	for _, c := range []struct {
		in    string
		n     int
		state headerState
	}{
		{"", 0, headerMaybe}, {"PRO", 3, headerMaybe}, {"\r\n", 2, headerMaybe}, {"GET /", 0, headerNone}, {"PROXX", 0, headerNone},
		{"PROXY TCP4 ", 107, headerPart}, {"PROXY UNKNOWN\r\nrest", 15, headerWhole},
		{v2[:13], 16, headerPart}, {v2[:17], 18, headerPart}, {v2, 18, headerWhole}, {v2 + "rest", 18, headerWhole},
	} {
		if n, state := measureHeader([]byte(c.in)); n != c.n || state != c.state {
			t.Errorf("%q: %d, %d, want %d, %d", c.in, n, state, c.n, c.state)
		}
	}
}
