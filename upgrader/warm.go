package upgrader

import (
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
)

// leave lets predecessor go, whose successor serves now; or keeps it running
// while that is on probation.
func (s *Service) leave(predecessor *generation) {
	if !s.config.Warm {
		s.retire(predecessor, phaseDraining, nil)
		return
	}
	predecessor.phase = phaseWarm
	s.warm = predecessor
}

// coolDown lets the warm predecessor go: there will be no rollback to it.
func (s *Service) coolDown() {
	if g := s.warm; g != nil {
		s.warm = nil
		s.retire(g, phaseDraining, nil)
	}
}

// warmDied is told when the warm predecessor ended by itself: a rollback will
// have to start it again.
func (s *Service) warmDied(g *generation) {
	s.warm = nil
	s.observe(Event{What: EventDied, Generation: g.number, Pid: g.pid(), Message: g.died() + " while it was kept warm", Warning: true})
	s.kill(g, nil)
}

// clientsFirst steers away from g, whose main process has failed, before
// anything else of it is looked at.
func (s *Service) clientsFirst(g *generation) {
	if g.status == nil || g.status.Success() { // it may have become a daemon
		return
	}
	switch {
	case g == s.serving && s.state == Probation && s.warm != nil:
		s.steerAway(g, s.warm, g.lost)
	case g == s.starting && s.state == Sharing && s.serving != nil:
		s.steerAway(g, s.serving, g.lost)
	}
}

// steerAway sends the clients of g, which failed, to another generation, if
// that was not done yet. noticed is when it was known that it failed.
func (s *Service) steerAway(g, to *generation, noticed time.Time) {
	if g.failed {
		return
	}
	g.failed = true
	s.steer(to)
	now := time.Now()
	s.swap.enter("steer-back", noticed)
	s.swap.enter("", now)
	s.observe(Event{What: EventSteered, Generation: to.number, Took: now.Sub(noticed)})
}

// steerBack has the warm predecessor serve again in the place of g, which
// failed: that was noticed just now.
func (s *Service) steerBack(g *generation, reason string, noticed time.Time) {
	warm := s.warm
	s.steerAway(g, warm, noticed)
	s.warm, s.serving = nil, warm
	warm.phase = phaseServing
	s.move(SteeredBack)
	s.conclude(control.RolledBack, reason, g)
	s.setFallback(nil)
	s.previous = swapRecipe(s.previous, nil) // it serves again
	s.setCurrent(warm.recipe)
	if warm.recipe != nil {
		s.notifies = warm.recipe.notifies
	}
	s.dismiss(g)
	s.writeStatusFile()
	s.save()
}

// dismiss ends g, which was ready and failed. One that lives may finish what
// it has in hand.
func (s *Service) dismiss(g *generation) {
	if g.ended {
		s.kill(g, nil)
		return
	}
	s.retire(g, phaseDraining, nil)
}

// backAtOnce rolls back, for whoever asks, what is not final yet and takes no
// start to undo: a canary, or a successor whose predecessor is warm. It
// reports whether there was one.
func (s *Service) backAtOnce(asked string, replies ...chan<- control.Verdict) bool {
	w, now := s.swap, time.Now()
	reason := "rolled back, as was asked for: " + asked
	switch {
	case s.state == Sharing:
		s.canaryFailed(s.starting, reason, now)
	case s.state == Probation && s.warm != nil:
		s.cancelProbation()
		s.steerBack(s.serving, reason, now)
	default:
		return false
	}
	v := control.Verdict{Swap: w.number, Verdict: control.Committed, Asked: asked, From: w.to.number, To: s.serving.number, Start: now, Took: time.Since(now)}
	for _, c := range replies {
		answer(c, v)
	}
	return true
}
