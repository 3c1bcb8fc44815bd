package upgrader

import "time"

// askedAgain is who asked for a swap that follows one that failed.
const askedAgain = "retry"

// again is a swap that failed and is due once more: see Config.Persistent.
type again struct {
	failures int // in a row, since somebody asked
	timer    *time.Timer
}

func (a *again) cancel() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// begin is told of each swap that begins. One that somebody asked for takes
// the place of the one that was due, and counts anew.
func (a *again) begin(w *swap) {
	a.cancel()
	if !w.retried {
		a.failures = 0
	}
}

// swapAgain has the swap that just failed before its successor was ready tried
// again, later and later. Nobody waits for its verdict: the first one stands.
func (s *Service) swapAgain(err error) {
	if !s.config.Persistent || s.config.Strategy == Exclusive || s.state.ending() {
		return
	}
	s.again.failures++
	wait := s.pause(s.again.failures)
	s.observe(Event{What: EventRetry, Took: wait, Err: err})
	s.again.cancel()
	s.again.timer = time.AfterFunc(wait, func() {
		s.tell(func() {
			if s.again.timer == nil || s.state.ending() || s.queued != nil {
				return
			}
			if s.serving == nil { // what served died meanwhile: first that has to serve again
				s.again.timer.Reset(max(wait, time.Second))
				return
			}
			s.again.timer = nil
			w := &swap{asked: askedAgain, retried: true}
			if s.state.busy() {
				s.queued = w
				return
			}
			s.beginSwap(w)
		})
	})
}
