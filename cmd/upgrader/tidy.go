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
	case upgrader.EventReady, upgrader.EventGone:
		t.rest.Reset(restAfter)
	}
}

// tidy is what is done at rest. The heap is let grow by a fifth before it is collected from then on: it is small.
func tidy() {
	debug.SetGCPercent(20)
	debug.FreeOSMemory()
	unmapProgram()
}
