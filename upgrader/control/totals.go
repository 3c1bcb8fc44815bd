package control

import (
	"slices"
	"time"
)

// Totals sum up the swaps since the upgrader took the service on, by their
// verdicts as they stand.
type Totals struct {
	Timeouts int           `json:"timeouts"` // rolled back or failed because something was late
	Errors   int           `json:"errors"`   // rolled back or failed for any other reason
	Took     time.Duration `json:"took_ns"`  // of all together
	Phases   []PhaseTotal  `json:"phases"`   // by name; never null
	Relayed  int           `json:"relayed"`  // clients (or datagrams) that a generation left behind and that another one got
	Lost     int           `json:"lost"`     // such clients that nobody could be given
}

// PhaseTotal sums up one phase over all swaps.
type PhaseTotal struct {
	Name     string        `json:"name"`
	Count    int           `json:"count"`
	Duration time.Duration `json:"duration_ns"`
}

// Add counts v n times: once, or -1 times when its verdict changes.
func (t *Totals) Add(v Verdict, n int) {
	switch {
	case v.Verdict == Committed:
	case v.Late:
		t.Timeouts += n
	default:
		t.Errors += n
	}
	t.Took += time.Duration(n) * v.Took
	for _, p := range v.Phases {
		i := slices.IndexFunc(t.Phases, func(have PhaseTotal) bool { return have.Name == p.Name })
		if i < 0 {
			i = len(t.Phases)
			t.Phases = append(t.Phases, PhaseTotal{Name: p.Name})
		}
		t.Phases[i].Count += n
		t.Phases[i].Duration += time.Duration(n) * p.Duration
	}
}

// Clone is a copy that shares nothing.
func (t Totals) Clone() Totals {
	t.Phases = slices.Clone(t.Phases)
	return t
}
