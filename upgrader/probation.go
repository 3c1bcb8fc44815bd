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
	ctx, cancel := context.WithCancel(g.run)
	s.probing = cancel
	options := s.probeOptions(g)
	s.spawn(func() {
		over := time.NewTimer(s.config.Probation)
		defer over.Stop()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-over.C:
				err := s.checkHealth(ctx, options) // it may have been too short for any other
				if ctx.Err() != nil {
					return
				}
				s.tell(func() {
					switch {
					case err != nil:
						s.unhealthy(g, err)
					case s.serving == g:
						s.endProbation("")
					}
				})
				return
			case <-tick.C:
				if err := s.checkHealth(ctx, options); err != nil && ctx.Err() == nil {
					s.tell(func() { s.unhealthy(g, err) })
					return
				}
			}
		}
	})
}

// checkHealth asks the configured check once.
func (s *Service) checkHealth(ctx context.Context, o *ready.Options) error {
	if s.config.Health == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return ready.Once(ctx, *s.config.Health, o)
}

// unhealthy rolls g back: it lives, but its check fails.
func (s *Service) unhealthy(g *generation, err error) {
	if s.state != Probation || s.serving != g {
		return
	}
	s.cancelProbation()
	s.serving = nil
	s.move(Unhealthy)
	s.revert(g, fmt.Sprintf("generation %d failed its health check: %s", g.number, err))
}

// endProbation makes the commit final.
func (s *Service) endProbation(why string) {
	if s.state != Probation {
		return
	}
	s.cancelProbation()
	s.move(Proved)
	s.setFallback(nil)
	s.observe(Event{What: EventProved, Generation: s.serving.number, Message: why})
	s.settleSwap()
}

func (s *Service) cancelProbation() {
	if s.probing != nil {
		s.probing()
		s.probing = nil
	}
}
