package upgrader

import (
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
)

// crashed opens the verdict on the death of g, which served: it is given once
// somebody serves again, or nobody will.
func (s *Service) crashed(g *generation) {
	s.crash = &control.Verdict{
		Reason: g.died(), Asked: control.AskedCrash, From: g.number, Start: time.Now(),
		Exit: g.exit(), Stderr: g.tailLines(),
	}
}

// crashOver gives the verdict on a crash, if there was one: to serves now, or
// nil: nobody.
func (s *Service) crashOver(verdict string, to *generation) {
	if s.crash == nil {
		return
	}
	s.swaps++
	v := *s.crash
	s.crash = nil
	v.Swap, v.Verdict, v.Took = s.swaps, verdict, time.Since(v.Start)
	if to != nil {
		v.To = to.number
	}
	s.record(v, false)
}
