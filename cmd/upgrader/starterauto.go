package main

import (
	"sync"
	"time"

	"github.com/upgrader/upgrader/upgrader"
)

// autoRestart is --enable-auto-restart: a swap when the serving generation is
// old enough; while predecessors are left only when it is twice as old.
type autoRestart struct {
	env starterEnv

	mu    sync.Mutex
	since time.Time // of the last start that came up, or of our last wish
	alive map[int]bool
}

func newAutoRestart(env starterEnv) *autoRestart {
	return &autoRestart{env: env, alive: map[int]bool{}}
}

// saw is told all that happens.
func (a *autoRestart) saw(e upgrader.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch e.What {
	case upgrader.EventReady:
		a.since = e.Time
		a.alive[e.Generation] = true
	case upgrader.EventGone:
		delete(a.alive, e.Generation)
	}
}

// due tells whether it is time now, and then counts from now on.
func (a *autoRestart) due(now time.Time) bool {
	on, every := a.env.auto()
	if !on {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	elapsed := now.Sub(a.since)
	if a.since.IsZero() || elapsed < every || len(a.alive) > 1 && elapsed < 2*every {
		return false
	}
	a.since = now
	return true
}
