package winevents

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Result is how an asking ended.
type Result string

// The results. With every one but Proceeded the successor may start and nobody
// else writes.
const (
	Nobody     Result = "nobody"     // there is no predecessor; Answer.Reason says how we know
	Confirmed  Result = "confirmed"  // it has saved and confirmed; it may linger
	Exited     Result = "exited"     // it is gone without a confirmation
	Terminated Result = "terminated" // it was ended by force at the deadline
	Proceeded  Result = "proceeded"  // no confirmation in time, and it is alive: whoever starts now starts beside it
)

// Marker is what the saved marker said.
type Marker string

// The markers.
const (
	MarkerUnread  Marker = ""        // AskConfig.Saved is nil, or there was nobody
	MarkerSaved   Marker = "saved"   // the predecessor has saved
	MarkerUnsaved Marker = "unsaved" // it has not: Answer.MarkerErr says what is wrong
)

// Answer is what came of an asking. It holds the lock against other askers, the
// events and the process: close it once the successor's own pid file is written.
type Answer struct {
	Result    Result
	Reason    string        // of Nobody, for people
	Late      bool          // it came after the confirmation's deadline
	Identity  Identity      // the asked process; of Nobody only what was claimed
	Marker    Marker        // the saved marker at the end
	MarkerErr error         // of MarkerUnsaved
	Took      time.Duration // from Kill to the result

	held *asking
}

// Exited says whether the asked process is gone by now.
func (a *Answer) Exited() (bool, error) {
	if a.held.process == nil {
		return true, nil
	}
	i, err := a.held.kernel.wait(0, a.held.process)
	if err != nil {
		return false, fmt.Errorf("winevents: look at process %d: %w", a.Identity.Pid, err)
	}
	return i == 0, nil
}

// Wait returns once the asked process is gone, or with the context's error. It
// must not run when Close is called.
func (a *Answer) Wait(ctx context.Context) (err error) {
	if a.held.process == nil {
		return nil
	}
	w, err := newWaiter(ctx, a.held.kernel)
	if err == nil {
		defer func() { err = errors.Join(err, w.close()) }()
		_, err = w.wait(forever, a.held.process)
	}
	if err != nil {
		return fmt.Errorf("winevents: wait for process %d: %w", a.Identity.Pid, err)
	}
	return nil
}

// Close releases the lock and everything else. Only its first call does.
func (a *Answer) Close() error {
	if err := a.held.close(); err != nil {
		return fmt.Errorf("winevents: close: %w", err)
	}
	return nil
}
