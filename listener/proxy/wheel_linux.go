//go:build !goroutines

package proxy

import "time"

// spokes of a wheel: an idle session is found late by a quarter of Config.Idle at most.
const spokes = 8

// wheel finds idle sessions. Each is on one spoke, and is looked at once in a turn at most: what has
// moved meanwhile is not told to the wheel, it is found out then.
type wheel struct {
	idle   int64 // ns; 0: none are looked for
	step   int64 // ns
	next   int64 // when the next spoke is due
	at     int   // that spoke
	count  int   // sessions on all of them
	spokes [spokes][]ticket
}

func newWheel(idle time.Duration) wheel {
	return wheel{idle: int64(idle), step: max(int64(idle)/4, int64(time.Millisecond))}
}

// add a session that is not idle before a time. Precondition: wheel.idle is not 0.
func (w *wheel) add(t ticket, idleAt int64) {
	if w.count++; w.count == 1 { // it stood still
		w.next = idleAt
	}
	ahead := 0
	if idleAt > w.next {
		ahead = min(int((idleAt-w.next+w.step-1)/w.step), spokes-1)
	}
	spoke := &w.spokes[(w.at+ahead)%spokes]
	*spoke = append(*spoke, t)
}

// turn gives the sessions of a spoke that is due; ok is false when none is.
func (w *wheel) turn(now int64) (due []ticket, ok bool) {
	if w.idle == 0 || w.count == 0 || now < w.next {
		return nil, false
	}
	due, w.spokes[w.at] = w.spokes[w.at], nil
	w.count -= len(due)
	w.at = (w.at + 1) % spokes
	w.next += w.step
	return due, true
}
