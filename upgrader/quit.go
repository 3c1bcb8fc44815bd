package upgrader

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/process"
)

// QuitReason says why a server is asked to quit.
type QuitReason string

// The reasons.
const (
	QuitStop QuitReason = "stop" // a full stop
	QuitSwap QuitReason = "swap" // another generation takes its place
)

// Answer is what came of asking a server to quit.
type Answer string

// The answers.
const (
	AnswerNone      Answer = ""          // it was asked: its end is watched by others
	AnswerConfirmed Answer = "confirmed" // it has saved and writes no more, and may linger: its successor may start
	AnswerProceed   Answer = "proceed"   // it has not confirmed in time, and its successor shall start beside it all the same
)

// Quit is a way to ask servers to quit other than by a signal.
type Quit interface {
	// Hold is called for the main process of each generation before it runs: what
	// it gives is closed when no process of the generation is left.
	Hold(main process.Identity) (io.Closer, error)
	// Ask asks the main process of a generation, and returns when there is an
	// answer. The context ends when the generation is to be killed, or is gone.
	Ask(ctx context.Context, main process.Identity, reason QuitReason) (Answer, error)
}

// quit asks g by Config.Quit.
func (s *Service) quit(g *generation) {
	reason := QuitSwap
	if s.state.ending() {
		reason = QuitStop
	}
	main, m := g.main, s.memory
	answered := make(chan struct{})
	g.answered = answered
	s.spawn(func() {
		defer close(answered)
		answer, err := s.config.Quit.Ask(g.grace, main, reason)
		switch answer {
		case AnswerConfirmed:
			s.memoryLeft(m, g, shmbridge.ExitClean)
		case AnswerProceed:
			s.memoryLeft(m, g, shmbridge.ExitCrash)
		}
		s.tell(func() {
			switch {
			case answer != AnswerNone:
				s.confirmed(g, answer)
			case err != nil && g.grace.Err() == nil && !errors.Is(err, process.ErrGone):
				s.note(g, "it could not be asked to quit", err)
			}
		})
	})
}

// confirmed is told when g has saved, and lingers, or counts as one that has.
func (s *Service) confirmed(g *generation, answer Answer) {
	if _, known := s.generations[g.number]; !known || g.confirmed {
		return // it is gone already
	}
	g.confirmed = true
	if answer == AnswerConfirmed {
		s.observe(Event{What: EventConfirmed, Generation: g.number, Pid: g.pid()})
	} else {
		s.observe(Event{What: EventUnconfirmed, Generation: g.number, Pid: g.pid(), Message: "it has not confirmed that it saved: its successor starts beside it", Warning: true})
	}
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
