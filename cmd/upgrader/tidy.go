package main

import (
	"runtime/debug"
	"time"

	"github.com/upgrader/upgrader/upgrader"
)

// restAfter is how long nothing has happened when we are at rest.
const restAfter = time.Second

// A tidier gives back the memory that a start or a swap needed: between swaps the memory is the server's.
type tidier struct{ rest *time.Timer }

func newTidier() *tidier {
	t := &tidier{time.AfterFunc(restAfter, tidy)}
	t.rest.Stop() // nothing has happened yet
	return t
}

// saw puts the rest off.
func (t *tidier) saw(e upgrader.Event) {
	switch e.What {
	case upgrader.EventSwapping, upgrader.EventDied:
		debug.SetGCPercent(hasteGC)
		t.rest.Reset(restAfter)
	case upgrader.EventReady, upgrader.EventGone, upgrader.EventRolled, upgrader.EventFailed:
		t.rest.Reset(restAfter)
	}
}

// By how much, in percent, the heap may grow before it is collected: while clients may be waiting, and at rest.
const (
	hasteGC = 400
	restGC  = 20
)

// tidy is what is done at rest.
func tidy() {
	debug.SetGCPercent(restGC)
	debug.FreeOSMemory()
	unmapProgram()
}
