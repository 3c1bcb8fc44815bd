package upgrader

import (
	"fmt"
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
)

// Canary says how a successor that is ready comes to serve: step by step, each
// one with a share of the new connections.
type Canary struct {
	Steps []int         // percentages, growing; nil: all at once
	Step  time.Duration // of each step; the health is checked meanwhile and at its end
}

// beginCanary gives g, which is ready, its first share.
func (s *Service) beginCanary(g *generation) {
	g.phase = phaseCanary
	s.move(ShareAsked)
	s.writeStatusFile()
	s.canaryStep(g, s.swap.canary.Steps)
}

// canaryStep gives g the first share of the steps that are left. Behind the
// last one it serves.
func (s *Service) canaryStep(g *generation, left []int) {
	if len(left) == 0 || left[0] == 100 {
		s.promote(g)
		return
	}
	percent := left[0]
	s.swap.enter("canary", time.Now())
	if err := s.set.Share(g.number, percent); err != nil {
		s.canaryFailed(g, fmt.Sprintf("no share of the new connections can be steered: %s", err), time.Now())
		return
	}
	s.observe(Event{What: EventShared, Generation: g.number, Message: fmt.Sprintf("%d %% of the new connections", percent)})
	s.underHealth(g, s.swap.canary.Step, func(err error, noticed time.Time) {
		switch {
		case g != s.starting || s.state != Sharing:
		case err != nil:
			s.canaryFailed(g, fmt.Sprintf("generation %d failed its health check with %d %% of the new connections: %s", g.number, percent, err), noticed)
		default:
			s.canaryStep(g, left[1:])
		}
	})
}

// canaryFailed gives all new connections back to the predecessor of g.
func (s *Service) canaryFailed(g *generation, reason string, noticed time.Time) {
	s.cancelProbation()
	s.steerAway(g, s.serving, noticed)
	s.starting = nil
	s.move(StartFailed)
	s.conclude(control.RolledBack, reason, g)
	s.dismiss(g)
	s.writeStatusFile()
}
