package upgrader

import (
	"errors"
	"fmt"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/control"
)

// mainEnded is told when the main process of g has ended.
func (s *Service) mainEnded(g *generation) {
	if s.followed(g) {
		return
	}
	close(g.exited)
	if s.state.ending() {
		if g == s.serving {
			s.result.Code = g.code()
		}
		return
	}
	switch {
	case g == s.starting:
		s.startFailed(g, fmt.Errorf("%s before it was ready", g.died()))
	case g == s.serving && g.phase == phaseServing:
		s.died(g)
	}
}

// died is told when the serving generation ended by itself.
func (s *Service) died(g *generation) {
	s.observe(Event{What: EventDied, Generation: g.number, Pid: g.pid(), Message: g.died(), Warning: true})
	s.serving = nil
	if s.state == Preparing {
		s.notPrepared(control.Failed, g.died()+" before its memory was copied")
	}
	switch s.state {
	case Swapping: // its successor is being started already
		s.move(ServerDied)
		if err := s.set.Steer(s.starting.number); err != nil && !errors.Is(err, listener.ErrNoLane) {
			s.note(g, "new connections wait in the dead generation's lanes", err)
		}
		s.kill(g, nil)
	case Probation:
		s.cancelProbation()
		s.move(ServerDied)
		s.revert(g, g.died()+" on probation")
	default:
		s.move(ServerDied)
		s.restarts++
		if s.config.Restart == RestartNever || s.config.Restart == RestartOnFailure && g.code() == 0 {
			s.kill(g, nil)
			s.result.Code = g.code()
			s.stop(nil)
			return
		}
		if time.Since(g.ready) >= s.config.RetryInterval {
			s.failures = 0
		}
		s.down(g, fmt.Errorf("%s", g.died()))
	}
}

// down is where nobody serves and nobody starts: the lanes of g hold the
// clients until a start succeeds. A first generation that fails ends the
// service, and so do too many starts that fail in a row.
func (s *Service) down(g *generation, err error) {
	s.failures++
	if s.served.IsZero() || s.failures > s.config.RetryMax {
		s.result.Code = failedCode(g, err)
		s.kill(g, nil)
		s.stop(err)
		return
	}
	s.message = err.Error()
	wait := time.Duration(0)
	if s.failures > 1 {
		wait = s.config.RetryInterval << min(s.failures-2, 16)
	}
	s.observe(Event{What: EventRetry, Generation: g.number, Took: wait, Err: err})
	s.kill(g, func() {
		s.retry = time.AfterFunc(wait, func() { s.tell(s.retryDue) })
	})
}

// failedCode is our exit status when g was the last that failed.
func failedCode(g *generation, err error) int {
	if g.status != nil {
		return g.code()
	}
	return exitCode(err)
}

// code is the exit status of g's main process, as a shell tells it.
func (g *generation) code() int {
	switch {
	case g.status == nil:
		return 0
	case g.status.Signal != 0:
		return 128 + int(g.status.Signal)
	default:
		return g.status.Code
	}
}

func (s *Service) retryDue() {
	if s.state != Down {
		return
	}
	s.retry = nil
	s.move(BeginAsked)
	s.begin(s.newGeneration(s.current))
}

func (s *Service) cancelRetry() {
	if s.retry != nil {
		s.retry.Stop()
		s.retry = nil
	}
}

// first starts the first generation of our life.
func (s *Service) first() {
	recipe, err := s.resolve()
	if err != nil {
		s.result = Exit{Code: exitCode(err), Reason: err}
		s.move(StopAsked)
		s.checkStopped()
		return
	}
	s.move(BeginAsked)
	s.begin(s.newGeneration(recipe))
}

// revert lets the predecessor's own command serve again, once nothing of the
// failed g is left. Clients wait in its lanes.
func (s *Service) revert(g *generation, reason string) {
	if s.swap != nil {
		s.swap.reason = reason
		s.swap.enter("revert", time.Now())
	}
	s.failed = g
	s.kill(g, func() { s.begin(s.newGeneration(s.fallback)) })
}
