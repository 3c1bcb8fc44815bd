package main

import (
	"fmt"
	"os"
	"time"
)

// world is the segment: what a module keeps across swaps.
type world struct {
	Registered uint64 // how often the inherited timer was registered: its number
	Due        int64  // when it fires next, nanoseconds since 1970; 0: it is not registered
	Fired      uint64
	Starts     uint64
	Stops      uint64
	Ticks      uint64 // of the timer that lives from start to stop
	Late       int64  // schema 2: the longest that the inherited timer was late, nanoseconds
}

// module is one that can be started and stopped again and again.
type module struct {
	*world
	ticker *time.Ticker
}

const (
	period = 200 * time.Millisecond // of the inherited timer
	tick   = 20 * time.Millisecond  // of the other one
)

func isHotUpgrading() bool { return os.Getenv("UPGRADER_PREDECESSOR") != "" }

func (m *module) start() {
	m.Starts++
	m.ticker = time.NewTicker(tick) // start/stop mode: stop ends it, the next start begins it anew
	if !isHotUpgrading() {          // inherit mode: registered once, it goes on in the successors
		m.Registered++
		m.Due = time.Now().Add(period).UnixNano()
	}
}

func (m *module) stop(hot bool) {
	m.Stops++
	m.ticker.Stop()
	if !hot { // the program ends for good
		m.Due = 0
	}
}

// upgrade finds the state as the old program left it. An error ends the new
// one, and the old one is started on its memory again.
func (m *module) upgrade(from, to uint64) error {
	if from == 1 && to == 2 {
		m.Late = 0 // new in schema 2
		from = 2
	}
	if from != to {
		return fmt.Errorf("no way from schema %d to %d", from, to)
	}
	return nil
}

// due says how long it is until the inherited timer fires.
func (m *module) due() time.Duration { return time.Until(time.Unix(0, m.Due)) }

// fire keeps the rhythm, whoever served when it was due.
func (m *module) fire(schema uint64) {
	m.Fired++
	if late := time.Now().UnixNano() - m.Due; schema == 2 && late > m.Late {
		m.Late = late
	}
	for m.due() <= 0 {
		m.Due += int64(period)
	}
}
