package upgrader

import (
	"errors"
	"fmt"
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
)

// mainEnded is told when the main process of g has ended.
func (s *Service) mainEnded(g *generation) {
	if g.ended {
		return
	}
	s.clientsFirst(g)
	s.findOrphans(g)
	if s.followed(g) {
		return
	}
	s.exited(g)
	if s.state.ending() {
		if g == s.serving {
			s.result.Code = g.code()
		}
		return
	}
	switch {
	case s.state == Handing: // what becomes of us is decided soon
	case s.inheritance != nil && s.inheritance.assuming: // likewise
	case g == s.starting && s.state == Sharing:
		s.canaryFailed(g, g.died()+" as a canary", g.lost)
	case g == s.starting && s.blocked(g):
		s.startOnceMore(g)
	case g == s.starting:
		s.startFailed(g, fmt.Errorf("%s before it was ready", g.died()))
	case g == s.serving && g.phase == phaseServing:
		s.died(g)
	case g == s.warm:
		s.warmDied(g)
	}
}

// exited notes that the main process of g is gone.
func (s *Service) exited(g *generation) {
	if !g.ended {
		g.ended = true
		close(g.exited)
	}
}

// died is told when the serving generation ended by itself.
func (s *Service) died(g *generation) {
	s.observe(Event{What: EventDied, Generation: g.number, Pid: g.pid(), Message: g.died(), Warning: true})
	if s.config.Outsiders != nil && g.status != nil && g.status.Success() {
		s.endProbation("it ended in good order: somebody told it to")
	}
	s.serving = nil
	if s.state == Preparing {
		s.notPrepared(control.Failed, g.died()+" before its memory was copied")
	}
	switch s.state {
	case Swapping: // its successor is being started already
		s.move(ServerDied)
		if s.starting == nil { // it is being started again
		} else if err := s.set.Steer(s.starting.number); err != nil && !noLane(err) {
			s.note(g, "new connections wait in the dead generation's lanes", err)
		}
		s.kill(g, nil)
	case Sharing: // its successor is ready
		s.cancelProbation()
		s.promote(s.starting)
		s.kill(g, nil)
	case Probation:
		s.cancelProbation()
		if s.warm != nil {
			s.steerBack(g, g.died()+" on probation", g.lost)
			return
		}
		s.move(ServerDied)
		s.revert(g, g.died()+" on probation", g.lost)
	default:
		s.move(ServerDied)
		s.restarts++
		s.crashed(g)
		if s.config.Restart == RestartNever || s.config.Restart == RestartOnFailure && g.status != nil && g.status.Success() {
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
	if !s.config.Persistent && (s.served.IsZero() || s.failures > s.config.RetryMax) {
		s.result.Code = failedCode(g, err)
		s.kill(g, nil)
		s.stop(err)
		return
	}
	s.message = err.Error()
	wait := s.pause(s.failures)
	s.observe(Event{What: EventRetry, Generation: g.number, Took: wait, Err: err})
	s.kill(g, func() {
		s.retry = time.AfterFunc(wait, func() { s.tell(s.retryDue) })
	})
}

// pause is how long the next start waits after so many that failed in a row.
func (s *Service) pause(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	wait := s.config.RetryInterval << min(failures-2, 16)
	if longest := s.config.RetryLongest; longest > 0 {
		wait = min(wait, longest)
	}
	return wait
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
	recipe := s.current
	if recipe == nil { // none was ever ready: what is there now may be
		var err error
		if recipe, err = s.resolve(); err != nil && !s.config.Persistent {
			s.move(BeginAsked)
			s.beginAgain(nil, err)
			return
		} else if err != nil {
			s.failures++
			wait := s.pause(s.failures)
			s.observe(Event{What: EventRetry, Took: wait, Err: err})
			s.retry = time.AfterFunc(wait, func() { s.tell(s.retryDue) })
			return
		}
	}
	if env, err := s.environ(); err == nil && !recipe.adopted {
		recipe.env = env // whoever ran with the old one is gone
	}
	s.move(BeginAsked)
	s.beginAgain(recipe, nil)
}

// beginAgain starts a generation of the recipe, or one that fails with err.
func (s *Service) beginAgain(r *recipe, err error) {
	g := s.newGeneration(r)
	if err != nil {
		s.starting = g
		s.notLaunched(g, err)
		return
	}
	s.begin(g)
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
// failed g is left. Clients wait in its lanes. noticed is when it was known
// that it failed.
func (s *Service) revert(g *generation, reason string, noticed time.Time) {
	if s.swap != nil {
		s.swap.reason = reason
		s.swap.enter("revert", noticed)
	}
	s.failed = g
	var unknown error
	if s.fallback == nil {
		unknown = errors.New("its executable is not known")
	} else {
		s.setCurrent(s.fallback) // what g runs has failed
	}
	s.kill(g, func() { s.beginAgain(s.fallback, unknown) })
}
