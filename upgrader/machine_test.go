package upgrader

import (
	"testing"
)

// TestMachine writes every cell of the table a second time: a blank cell is
// an illegal move.
func TestMachine(t *testing.T) {
	moves := []Move{BeginAsked, Ready, StartFailed, ServerDied, OverlapAsked, PrepareAsked, ExclusiveAsked, PredecessorGone, Proved, Unhealthy, ShareAsked, SteeredBack, HandAsked, HandedOver, HandFailed, TakeAsked, Taken, TakenOver, StopAsked, AllGone}
	const no = State("")
	rows := []struct {
		from State
		to   []State // in the order of moves
	}{
		//           begin     ready      failed     died       overlap   prepare   exclusive gone       proved   unhealthy  share    back     hand    handed   kept    take    taken   adopted  stop      all-gone
		{Down, []State{Starting, no, no, no, no, no, no, no, no, no, no, no, no, no, no, Taking, no, no, Stopping, no}},
		{Starting, []State{no, Serving, Down, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, Stopping, no}},
		{Serving, []State{no, no, no, Down, Swapping, Preparing, Leaving, no, no, no, no, no, Handing, no, no, no, no, no, Stopping, no}},
		{Swapping, []State{no, Probation, Serving, Starting, no, no, no, no, no, no, Sharing, no, no, no, no, no, no, no, Stopping, no}},
		{Sharing, []State{no, Probation, Serving, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, Stopping, no}},
		{Preparing, []State{no, no, Serving, no, no, no, Leaving, no, no, no, no, no, no, no, no, no, no, no, Stopping, no}},
		{Probation, []State{no, no, no, Reverting, Swapping, no, Leaving, no, Serving, Reverting, no, Serving, no, no, no, no, no, no, Stopping, no}},
		{Leaving, []State{no, no, no, no, no, no, no, Replacing, no, no, no, no, no, no, no, no, no, no, Stopping, no}},
		{Replacing, []State{no, Probation, Reverting, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, Stopping, no}},
		{Reverting, []State{no, Serving, Down, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, Stopping, no}},
		{Handing, []State{no, no, no, no, no, no, no, no, no, no, no, no, no, Stopped, Serving, no, no, no, no, no}},
		{Taking, []State{no, no, Stopped, no, no, no, no, no, no, no, no, no, no, no, no, no, Swapping, Serving, Stopped, no}},
		{Stopping, []State{no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, Stopped}},
		{Stopped, []State{no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no}},
	}
	if len(rows) != len(next) {
		t.Fatalf("%d states here, %d in the table", len(rows), len(next))
	}
	for _, row := range rows {
		for i, m := range moves {
			to, err := Next(row.from, m)
			switch want := row.to[i]; {
			case want == no && err == nil:
				t.Errorf("%s is legal from %s and leads to %s", m, row.from, to)
			case want == no && to != row.from:
				t.Errorf("%s is refused from %s and leads to %s all the same", m, row.from, to)
			case want != no && (err != nil || to != want):
				t.Errorf("%s from %s leads to %s (%v), want %s", m, row.from, to, err, want)
			}
		}
	}
}

// TestEveryStateEnds walks the table: a stop is legal wherever something may
// run, and every state can be reached. While a self-upgrade is under way a stop
// ends that first, or is passed to the heir.
func TestEveryStateEnds(t *testing.T) {
	seen := map[State]bool{Down: true}
	for more := true; more; {
		more = false
		for s := range seen {
			for _, to := range next[s] {
				if !seen[to] {
					seen[to], more = true, true
				}
			}
		}
	}
	for s := range next {
		if !seen[s] {
			t.Errorf("%s cannot be reached", s)
		}
		if _, ok := next[s][StopAsked]; !ok && !s.ending() && s != Handing {
			t.Errorf("%s cannot be stopped", s)
		}
	}
}
