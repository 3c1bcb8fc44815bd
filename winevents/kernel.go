package winevents

import (
	"context"
	"fmt"
	"math"
	"time"
)

// kernel is the little that the protocol needs of Windows. Handles belong to
// whoever got them and are closed exactly once.
type kernel interface {
	// createEvent opens the event of that name, or creates it auto-reset and
	// unsignalled; an empty name makes one without a name. The user itself, the
	// system, administrators and the granted users (SIDs) get full access to an
	// event that is created. Errors: ErrOtherKind, fs.ErrPermission.
	createEvent(name string, grant []string) (e event, existed bool, err error)
	// openProcess errors: ErrNoProcess, fs.ErrPermission.
	openProcess(pid int, a access) (process, error)
	// acquire takes the named mutex, crash-safe: an owner's death frees it.
	// Errors: ErrBusy after the timeout or once stop is signalled, ErrOtherKind.
	acquire(name string, grant []string, timeout time.Duration, stop event) (release func() error, err error)
	// wait blocks until one of the objects is signalled and returns the lowest
	// index of those that are, or timedOut. It resets an auto-reset event.
	wait(timeout time.Duration, objects ...handle) (int, error)
	// self is the calling process.
	self() (Identity, error)
}

type handle interface{ Close() error }

type event interface {
	handle
	Set() error
	Reset() error
}

// process is signalled once the process has ended.
type process interface {
	handle
	Identity() (Identity, error)
	User() (sid string, err error)
	Terminate() error
}

// access is what a process is opened for.
type access int

const (
	toWatch     access = iota // wait for its end, read what it is
	toTerminate               // and end it
)

const (
	timedOut = -1
	forever  = time.Duration(math.MaxInt64)
)

// waiter waits on kernel objects and on a context at the same time: the
// context's end is one more event, the first in every wait.
type waiter struct {
	ctx    context.Context
	kernel kernel
	cancel event
	stop   func() bool
	fired  chan struct{} // closed when the context's end has been passed on
}

func newWaiter(ctx context.Context, k kernel) (*waiter, error) {
	cancel, _, err := k.createEvent("", nil)
	if err != nil {
		return nil, fmt.Errorf("create the event that ends waits: %w", err)
	}
	w := &waiter{ctx: ctx, kernel: k, cancel: cancel, fired: make(chan struct{})}
	w.stop = context.AfterFunc(ctx, func() {
		defer close(w.fired)
		_ = cancel.Set() // fails for a closed handle only, and close waits for us
	})
	return w, nil
}

// wait returns the lowest index of the signalled objects, timedOut, or the
// context's error.
func (w *waiter) wait(timeout time.Duration, objects ...handle) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return timedOut, err
	}
	i, err := w.kernel.wait(timeout, append([]handle{w.cancel}, objects...)...)
	switch {
	case err != nil:
		return timedOut, fmt.Errorf("wait for kernel objects: %w", err)
	case i == timedOut:
		return timedOut, nil
	case i == 0:
		return timedOut, w.ctx.Err()
	}
	return i - 1, nil
}

func (w *waiter) close() error {
	if !w.stop() {
		<-w.fired
	}
	return w.cancel.Close()
}
