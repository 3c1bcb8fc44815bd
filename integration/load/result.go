package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is the account of a load. Requests is the sum of Outcomes.
type Result struct {
	Requests    int
	Outcomes    map[Outcome]int
	Generations map[int]int // answers by the generation that gave them
	Connections int         // made in all
	Misrouted   int         // answers of an older generation on a connection begun after a newer one had answered a newer connection
	Stale       int         // idle connections that the server had closed, found when the next request was written; it was asked again on a new one
	Resent      int         // UDP: datagrams sent again
	Duplicates  int         // UDP: answers to requests that had been answered
	Queued      int         // unix: connects that found the queue full and were tried again

	LongestGap time.Duration           // between two good answers, of whatever client
	Latency    *hdrhistogram.Histogram // of good answers, in microseconds; from the intended time in an open loop
	Took       time.Duration
	Errors     []string // the first few
}

// Failed counts the requests that had no good answer.
func (r Result) Failed() int { return r.Requests - r.Outcomes[OK] }

// Millis gives a quantile (in percent) of the latency in milliseconds.
func (r Result) Millis(quantile float64) float64 {
	return float64(r.Latency.ValueAtQuantile(quantile)) / 1000
}

// String is the account in one line, and a line for each of the first errors.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %.1f s", r.Requests, r.Took.Seconds())
	for _, o := range slices.Sorted(maps.Keys(r.Outcomes)) {
		fmt.Fprintf(&b, ", %s %d", o, r.Outcomes[o])
	}
	for _, count := range []struct {
		name string
		n    int
	}{{"misrouted", r.Misrouted}, {"stale", r.Stale}, {"resent", r.Resent}, {"duplicates", r.Duplicates}, {"queued", r.Queued}} {
		if count.n != 0 {
			fmt.Fprintf(&b, ", %s %d", count.name, count.n)
		}
	}
	fmt.Fprintf(&b, "; %d connections, %d generations; longest gap %.1f ms, p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.1f ms",
		r.Connections, len(r.Generations), float64(r.LongestGap.Microseconds())/1000, r.Millis(50), r.Millis(99), r.Millis(99.9), r.Millis(100))
	for _, e := range r.Errors {
		b.WriteString("\n\t" + e)
	}
	return b.String()
}

// answer is one request and what became of it.
type answer struct {
	err        error
	generation int
	fresh      bool      // on a connection made for it
	begun      time.Time // of the connection if fresh: when the connect began
	intended   time.Time
	counts     counts
}

// counts are the things that a request adds to a Result besides its outcome.
type counts struct {
	connections, stale, resent, duplicates, queued int
}

// account adds up answers. Its user locks.
type account struct {
	Result
	started, lastGood time.Time
	seen              map[int]time.Time // when a generation first answered a fresh connection
}

func newAccount(now time.Time) *account {
	return &account{
		Result: Result{
			Outcomes: map[Outcome]int{}, Generations: map[int]int{},
			Latency: hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3),
		},
		started: now, seen: map[int]time.Time{},
	}
}

const keptErrors = 8

func (a *account) add(w answer, now time.Time) {
	a.Requests++
	outcome := classify(w.err)
	a.Outcomes[outcome]++
	a.Connections += w.counts.connections
	a.Stale += w.counts.stale
	a.Resent += w.counts.resent
	a.Duplicates += w.counts.duplicates
	a.Queued += w.counts.queued
	if outcome != OK {
		if len(a.Errors) < keptErrors {
			a.Errors = append(a.Errors, fmt.Sprintf("%.3f s: %s: %v", now.Sub(a.started).Seconds(), outcome, w.err))
		}
		return
	}
	a.Generations[w.generation]++
	_ = a.Latency.RecordValue(max(1, now.Sub(w.intended).Microseconds())) // past ten minutes nothing is asked of it
	if !a.lastGood.IsZero() {
		a.LongestGap = max(a.LongestGap, now.Sub(a.lastGood))
	}
	a.lastGood = now
	if !w.fresh {
		return
	}
	if _, known := a.seen[w.generation]; !known {
		a.seen[w.generation] = now
	}
	for generation, first := range a.seen {
		if generation > w.generation && first.Before(w.begun) {
			a.Misrouted++
			if len(a.Errors) < keptErrors {
				a.Errors = append(a.Errors, fmt.Sprintf("%.3f s: misrouted: generation %d answered a connection begun %v after generation %d first did",
					now.Sub(a.started).Seconds(), w.generation, w.begun.Sub(first), generation))
			}
			break
		}
	}
}

// result gives a copy as of now.
func (a *account) result(now time.Time) Result {
	r := a.Result
	r.Outcomes, r.Generations, r.Errors = maps.Clone(r.Outcomes), maps.Clone(r.Generations), slices.Clone(r.Errors)
	r.Latency = hdrhistogram.Import(r.Latency.Export())
	r.Took = now.Sub(a.started)
	return r
}
