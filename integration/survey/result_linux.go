package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/upgrader/upgrader/integration/load"
)

// Row is what became of one server.
type Row struct {
	Server, Way, Version string
	Strategy, Signal     string
	Command              string   // what was run
	Claims               []string // the addresses that were taken over
	Fallback             bool     // it is known that its binds cannot be taken over

	Swaps, Committed, RolledBack, Failed int
	Reasons                              []string // of swaps that were not committed
	Took                                 []time.Duration

	Hurried  int // predecessors that were told to quit with requests on their way, for --settle-max was over
	Loads    []Load
	Warnings []string // of the upgrader, each once
	Notes    []string
	Exit     int    // of the upgrader after a full stop
	Skipped  string // what it needs and did not find
	Error    string // what kept the row from its end
}

// Load is the account of one load.
type Load struct {
	Kind     string
	OK       int
	Failed   map[load.Outcome]int // requests without a good answer, by class
	Stale    int                  // connections that had ended when the next request was written
	Ended    int                  // connections that did not last, in whatever way
	Resent   int                  // datagrams
	Busy     int                  // times that the server itself said "not now", whereupon the client asked again
	Routed   int                  // answers of an older generation than had to be
	Gap, Max time.Duration        // longest time without an answer; longest time to one
	Errors   []string             // the first few
}

// add takes the account of one load.
func (r *Row) add(k kind, a load.Result, t *told) {
	l := Load{
		Kind: k.name, OK: a.Outcomes[load.OK], Failed: a.Outcomes, Stale: a.Stale, Resent: a.Resent, Routed: a.Misrouted, Busy: int(t.busy.Load()),
		Gap: a.LongestGap, Max: time.Duration(a.Millis(100) * float64(time.Millisecond)), Errors: a.Errors,
	}
	delete(l.Failed, load.OK)
	if k.config.PerConnection == 0 {
		l.Ended = max(0, a.Connections-k.config.Clients)
	}
	r.Loads = append(r.Loads, l)
}

func (r Row) load(kind string) (Load, bool) {
	for _, l := range r.Loads {
		if l.Kind == kind {
			return l, true
		}
	}
	return Load{}, false
}

// median of the times from the wish to the commit.
func (r Row) median() time.Duration {
	if len(r.Took) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(r.Took))[len(r.Took)/2]
}

// String is the row in one line, and its errors.
func (r Row) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s:", r.Server, r.Way)
	switch {
	case r.Skipped != "":
		fmt.Fprintf(&b, " skipped: %s", r.Skipped)
		return b.String()
	case r.Swaps > 0:
		fmt.Fprintf(&b, " %d swaps, %d committed, median %v;", r.Swaps, r.Committed, r.median().Round(time.Millisecond))
	}
	if r.Hurried > 0 {
		fmt.Fprintf(&b, " %d not quiet within settle-max;", r.Hurried)
	}
	for _, l := range r.Loads {
		fmt.Fprintf(&b, " %s: %d ok, failed %s, ended %d, busy %d, resent %d, gap %v;", l.Kind, l.OK, classes(l.Failed), l.Ended, l.Busy, l.Resent, l.Gap.Round(time.Millisecond))
		for _, e := range l.Errors {
			fmt.Fprintf(&b, "\n\t%s", e)
		}
	}
	for _, list := range [][]string{r.Reasons, r.Warnings, r.Notes} {
		for _, e := range list {
			fmt.Fprintf(&b, "\n\t%s", e)
		}
	}
	if r.Error != "" {
		fmt.Fprintf(&b, "\n\tNOT MEASURED: %s", r.Error)
	}
	return b.String()
}

// classes writes counts of outcomes: 0, or "3 (eof 1, reset 2)".
func classes(counts map[load.Outcome]int) string {
	total := 0
	var parts []string
	for _, o := range slices.Sorted(maps.Keys(counts)) {
		total += counts[o]
		parts = append(parts, fmt.Sprintf("%s %d", o, counts[o]))
	}
	if total == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", total, strings.Join(parts, ", "))
}
