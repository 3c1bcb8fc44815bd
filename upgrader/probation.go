package upgrader

import (
	"context"
	"fmt"
	"time"

	"github.com/upgrader/upgrader/upgrader/ready"
)

// probation watches g after its commit. Its death, or a failing health check,
// rolls back; the end of the time makes the commit final.
func (s *Service) probation(g *generation) {
	if s.config.Probation == 0 || s.swap == nil {
		s.endProbation("")
		return
	}
	s.underHealth(g, s.config.Probation, func(err error, noticed time.Time) {
		switch {
		case err != nil:
			s.unhealthy(g, err, noticed)
		case s.serving == g:
			s.endProbation("")
		}
	})
}

// underHealth checks g every second for d, and once more at its end: it may
// have been too short for any other. then runs in the loop with the first
// check that failed, and when; or with nil after d; or not at all after
// cancelProbation.
func (s *Service) underHealth(g *generation, d time.Duration, then func(err error, noticed time.Time)) {
	s.cancelProbation()
	ctx, cancel := context.WithCancel(g.run)
	s.probing = cancel
	options := s.probeOptions(g)
	s.spawn(func() {
		err := s.healthy(ctx, options, d)
		noticed := time.Now()
		s.tell(func() {
			if ctx.Err() == nil {
				then(err, noticed)
			}
		})
	})
}

// healthy returns the first check that failed within d, or nil after it.
func (s *Service) healthy(ctx context.Context, o *ready.Options, d time.Duration) error {
	over := time.NewTimer(d)
	defer over.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		last := false
		select {
		case <-ctx.Done():
			return nil
		case <-over.C:
			last = true
		case <-tick.C:
		}
		if err := s.checkHealth(ctx, o); err != nil || last {
			return err
		}
	}
}

// checkHealth asks the configured check once.
func (s *Service) checkHealth(ctx context.Context, o *ready.Options) error {
	if s.config.Health == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.HealthTimeout)
	defer cancel()
	return ready.Once(ctx, *s.config.Health, o)
}

// unhealthy rolls g back: it lives, but its check fails.
func (s *Service) unhealthy(g *generation, err error, noticed time.Time) {
	if s.state != Probation || s.serving != g {
		return
	}
	s.cancelProbation()
	reason := fmt.Sprintf("generation %d failed its health check: %s", g.number, err)
	if s.warm != nil {
		s.steerBack(g, reason, noticed)
		return
	}
	s.serving = nil
	s.move(Unhealthy)
	s.revert(g, reason, noticed)
}

// endProbation makes the commit final.
func (s *Service) endProbation(why string) {
	if s.state != Probation {
		return
	}
	s.cancelProbation()
	s.move(Proved)
	s.setFallback(nil)
	s.coolDown()
	s.observe(Event{What: EventProved, Generation: s.serving.number, Message: why})
	s.settleSwap()
}

func (s *Service) cancelProbation() {
	if s.probing != nil {
		s.probing()
		s.probing = nil
	}
}
