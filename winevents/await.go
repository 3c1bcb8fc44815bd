package winevents

import (
	"fmt"
	"time"
)

// await waits for whatever ends an asking whose Kill is set: a confirmation that
// the marker bears out, the process's end, or the policy at the deadline.
func (a *asking) await() (*Answer, error) {
	deadline := a.began.Add(a.times.Confirm)
	objects := make([]handle, 0, len(a.confirms)+1)
	for _, c := range a.confirms {
		objects = append(objects, c)
	}
	objects = append(objects, a.process) // last: a confirmation counts before the end that follows it
	answer := &Answer{}
	confirmed := false
	for {
		timeout := forever
		if !answer.Late {
			timeout = time.Until(deadline)
		}
		if confirmed { // and not borne out: the marker has no handle to wait on
			timeout = min(timeout, a.times.Poll)
		}
		i, err := a.waiter.wait(timeout, objects...)
		switch {
		case err != nil:
			return nil, err
		case i == len(a.confirms):
			return a.exited(answer, confirmed)
		case i != timedOut:
			// Not auto-reset if a stranger made it.
			if err := a.confirms[i].Reset(); err != nil {
				return nil, err
			}
		}
		if i != timedOut || confirmed {
			if a.readMarker(answer) {
				return a.confirmed(answer), nil
			}
			if i != timedOut {
				a.observe(Event{What: EventDoubted, Object: a.confirmName(i), Err: answer.MarkerErr})
			}
			if i != timedOut && confirmed {
				// A stranger that keeps setting it must not keep us busy.
				if i, err := a.waiter.wait(a.times.Poll, a.process); err != nil {
					return nil, err
				} else if i == 0 {
					return a.exited(answer, confirmed)
				}
			}
			confirmed = true
		}
		if answer.Late || time.Now().Before(deadline) {
			continue
		}
		answer.Late = true
		if done, err := a.late(answer); done || err != nil {
			return answer, err
		}
	}
}

// late applies the policy. It says whether that ends the asking.
func (a *asking) late(answer *Answer) (done bool, err error) {
	a.observe(Event{What: EventDeadline})
	unseen := a.withdraw()
	for _, kill := range unseen { // to look was to take it back
		if err := kill.Set(); err != nil {
			return false, err
		}
	}
	if len(unseen) == len(a.kills) {
		a.observe(Event{What: EventUnnoticed})
	}
	switch a.config.AtDeadline {
	case DeadlineProceed:
		answer.Result = Proceeded
		a.readMarker(answer)
		return true, nil
	case DeadlineKill:
		return true, a.terminate(answer)
	}
	return false, nil
}

// terminate ends the process. It may be ending by itself, where no right to
// terminate it is left: the end is what counts.
func (a *asking) terminate(answer *Answer) error {
	refused := a.process.Terminate()
	patience := forever
	if refused != nil {
		patience = a.times.Hold
	}
	i, err := a.waiter.wait(patience, a.process)
	switch {
	case err != nil:
		return err
	case i == timedOut:
		return fmt.Errorf("end the process: %w", refused)
	case refused != nil:
		answer.Result = Exited
		a.observe(Event{What: EventExited})
	default:
		answer.Result = Terminated
		a.observe(Event{What: EventTerminated})
	}
	a.readMarker(answer)
	return nil
}

// exited looks once more for a confirmation: the process may have set it just
// before it ended.
func (a *asking) exited(answer *Answer, confirmed bool) (*Answer, error) {
	a.observe(Event{What: EventExited})
	for _, c := range a.confirms {
		i, err := a.kernel.wait(0, c)
		if err != nil {
			return nil, err
		}
		confirmed = confirmed || i == 0
	}
	if a.readMarker(answer) && confirmed {
		return a.confirmed(answer), nil
	}
	answer.Result = Exited
	return answer, nil
}

func (a *asking) confirmed(answer *Answer) *Answer {
	a.observe(Event{What: EventConfirmed})
	answer.Result = Confirmed
	return answer
}

// readMarker says whether a confirmation is to be believed.
func (a *asking) readMarker(answer *Answer) bool {
	if a.config.Saved == nil {
		return true
	}
	answer.Marker, answer.MarkerErr = MarkerSaved, a.config.Saved(a.identity)
	if answer.MarkerErr != nil {
		answer.Marker = MarkerUnsaved
	}
	return answer.MarkerErr == nil
}

func (a *asking) confirmName(i int) string {
	return string(a.names[i]) + KillSuccess.Name(a.claimed.Pid)
}
