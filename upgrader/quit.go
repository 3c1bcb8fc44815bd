package upgrader

import (
	"context"
	"errors"
	"time"

	"github.com/upgrader/upgrader/upgrader/process"
)

// QuitReason says why a server is asked to quit.
type QuitReason string

// The reasons.
const (
	QuitStop QuitReason = "stop" // a full stop
	QuitSwap QuitReason = "swap" // another generation takes its place
)

// Quit asks the main process of a generation to quit. It returns early, with
// confirmed, when the process has said that it has saved and writes no more:
// its successor may start while it lingers. Otherwise it may return once it has
// asked: the end of the process is watched by others. The context ends when
// the generation is to be killed, or is gone.
type Quit func(ctx context.Context, main process.Identity, reason QuitReason) (confirmed bool, err error)

// quit asks g by Config.Quit.
func (s *Service) quit(g *generation) {
	reason := QuitSwap
	if s.state.ending() {
		reason = QuitStop
	}
	main, m := g.main, s.memory
	s.spawn(func() {
		confirmed, err := s.config.Quit(g.grace, main, reason)
		if confirmed {
			s.memoryEnded(m, g, true)
		}
		s.tell(func() {
			switch {
			case confirmed:
				s.confirmed(g)
			case err != nil && g.grace.Err() == nil && !errors.Is(err, process.ErrGone):
				s.note(g, "it could not be asked to quit", err)
			}
		})
	})
}

// confirmed is told when g has saved, and lingers.
func (s *Service) confirmed(g *generation) {
	if _, known := s.generations[g.number]; !known || g.confirmed {
		return // it is gone already
	}
	g.confirmed = true
	s.observe(Event{What: EventConfirmed, Generation: g.number, Pid: g.pid()})
	s.limitLinger(g)
	s.leaveLingering(g)
	if then := g.then; then != nil && g.phase == phaseLeaving && !s.state.ending() {
		g.phase, g.then = phaseDraining, nil
		then()
	}
	if w := s.starting; w != nil && !w.begun && s.alone(w) {
		s.start(w)
	}
}

// limitLinger kills g, which has confirmed, if it stays for too long.
func (s *Service) limitLinger(g *generation) {
	if s.config.Linger == 0 {
		return
	}
	late := time.AfterFunc(s.config.Linger, func() {
		s.tell(func() {
			if g.run.Err() == nil && !s.handsOff() {
				s.observe(Event{What: EventKilled, Generation: g.number, Pid: g.pid(), Message: "it lingers for too long", Warning: true})
				g.hurry()
			}
		})
	})
	context.AfterFunc(g.run, func() { late.Stop() })
}
