package upgrader

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/process"
)

// retire lets g go: once its lanes are quiet it is asked to quit, and killed
// as a whole at the deadline. then runs in the loop when nothing of it is left.
func (s *Service) retire(g *generation, as phase, then func()) {
	g.phase, g.then = as, then
	s.limitDraining()
	began := time.Now()
	s.spawn(func() {
		o := listener.SettleOptions{Quiet: s.config.Settle, Max: s.config.SettleMax, Inodes: g.members.Inodes}
		settled, err := s.set.Settle(g.grace, g.number, o)
		if err != nil && g.grace.Err() == nil { // what is in flight cannot be seen here: what waits can
			o.Inodes = nil
			settled, _ = s.set.Settle(g.grace, g.number, o)
		}
		s.tell(func() {
			if err != nil && !errors.Is(err, context.Canceled) {
				s.note(g, "its lanes could not be watched", err)
			}
			message := "quiet"
			if !settled.Quiet {
				message = "not quiet within settle-max"
			}
			s.observe(Event{What: EventLeaving, Generation: g.number, Pid: g.pid(), Took: time.Since(began), Message: message})
			if w := s.swap; w != nil && w.from == g && as == phaseLeaving {
				w.enter("stop", time.Now())
				s.saving(g)
			}
			s.askToQuit(g, s.config.SwapSignal)
		})
	})
}

// askToQuit sends the signal that a server understands as "quit", and sees to
// it that g ends. It does so once for each generation: a full stop may come
// while g drains.
func (s *Service) askToQuit(g *generation, sig syscall.Signal) {
	if g.asked {
		return
	}
	g.asked = true
	if err := g.signal(sig); err != nil && !errors.Is(err, process.ErrGone) {
		s.note(g, "the stop signal could not be sent", err)
	}
	s.spawn(func() { s.awaitEnd(g) })
}

// kill ends g at once.
func (s *Service) kill(g *generation, then func()) {
	if then != nil {
		g.then = then
	}
	g.phase = phaseDying
	g.hurry()
	if g.members == nil || g.asked { // being started: launched() comes back here; being awaited: hurried
		return
	}
	g.asked = true
	s.spawn(func() { s.awaitEnd(g) })
}

// awaitEnd waits until no process of g is left, kills what is there at the
// deadline or when it is hurried, and tells.
func (s *Service) awaitEnd(g *generation) {
	deadline, cancel := g.grace, context.CancelFunc(func() {})
	if s.config.StopTimeout > 0 {
		deadline, cancel = context.WithTimeout(g.grace, s.config.StopTimeout)
	}
	defer cancel()
	err := g.members.WaitEmpty(deadline)
	quit := err == nil && g.grace.Err() == nil
	if err != nil {
		late := g.grace.Err() == nil
		if late {
			s.tell(func() {
				s.observe(Event{What: EventKilled, Generation: g.number, Pid: g.pid(), Message: "it did not quit in time", Warning: true})
			})
		}
		if err := g.members.Kill(s.run); err != nil {
			s.tell(func() { s.note(g, "some of its processes cannot be killed", err) })
		}
	}
	if g.child != nil {
		<-g.exited // its status is known before it is gone
	}
	s.memoryEnded(g, quit)
	s.tell(func() { s.gone(g) })
}

// gone is told when no process of g is left.
func (s *Service) gone(g *generation) {
	if _, known := s.generations[g.number]; !known {
		return
	}
	then := g.then
	s.forget(g)
	s.writeStatusFile()
	if s.state.ending() {
		s.checkStopped()
		return
	}
	if g.ready.IsZero() {
		s.set.Abandon(g.number)
	} else {
		s.set.Retire(g.number) // what lies in its lanes, or lands there late, is relayed to whoever serves
	}
	if then != nil {
		then()
	}
	if s.serving != nil && s.intercepts {
		s.releaseClaims(s.serving)
	}
}

// limitDraining kills the oldest of too many that drain.
func (s *Service) limitDraining() {
	for {
		var oldest *generation
		n := 0
		for _, g := range s.generations {
			if g.phase == phaseDraining {
				n++
				if oldest == nil || g.number < oldest.number {
					oldest = g
				}
			}
		}
		if n <= s.config.DrainMax {
			return
		}
		s.observe(Event{What: EventKilled, Generation: oldest.number, Pid: oldest.pid(), Message: "too many predecessors drain", Warning: true})
		s.kill(oldest, nil)
	}
}

// stop begins the full stop, or hurries it when it was begun. reason is nil
// when somebody asked.
func (s *Service) stop(reason error) {
	if s.state == Stopped {
		return
	}
	if s.state == Stopping {
		for _, g := range s.generations {
			s.kill(g, nil)
		}
		return
	}
	s.cancelRetry()
	s.cancelProbation()
	s.result.Reason = reason
	s.move(StopAsked)
	s.observe(Event{What: EventStopping, Err: reason})
	s.settleSwap()
	s.dropQueued("the upgrader is stopping")
	starting := s.starting
	s.starting = nil
	for _, g := range s.generations {
		switch g.phase {
		case phaseStarting:
			if g != starting { // it waits for its predecessor
				s.forget(g)
				continue
			}
			s.kill(g, nil)
		case phaseDying:
		default:
			s.askToQuit(g, s.config.StopSignal)
		}
	}
	s.checkStopped()
}

// checkStopped ends the full stop when nothing is left.
func (s *Service) checkStopped() {
	if s.state == Stopping && len(s.generations) == 0 {
		s.move(AllGone)
	}
}
