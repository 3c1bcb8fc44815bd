package upgrader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/control"
)

// verdictsKept is how many verdicts the status remembers.
const verdictsKept = 50

// A swap is one wish to replace what serves, from the moment it is begun until
// its verdict can no longer change.
type swap struct {
	number  int
	asked   string // who asked, for the verdict
	from    *generation
	to      *generation
	began   time.Time
	phase   string // the phase under way
	phaseAt time.Time
	phases  []control.Phase
	callers []chan<- control.Verdict // wait for the commit
	proofs  []chan<- control.Verdict // wait for the end of probation
	verdict *control.Verdict         // set once it was given
	reason  string                   // why it is being reverted
	canary  Canary                   // how the successor comes to serve
	back    bool                     // to what ran before, rather than to what the command names now
	late    bool                     // something of it took too long
	retried bool                     // nobody asked for it but the failure of the one before
	restore *shmbridge.Snapshot      // what runs now is to go on from these bytes
	copy    *copying                 // of the segment, as the predecessor left it; nil: not yet, or no segment
	ports   *ownPorts                // watched; nil: there are none, or the verdict was given
	unwatch context.CancelFunc       // ends that
	gap     time.Duration            // see control.Verdict
}

// enter ends the phase under way and begins another; "" begins none.
func (w *swap) enter(phase string, now time.Time) {
	if w.phase != "" {
		w.phases = append(w.phases, control.Phase{Name: w.phase, Duration: now.Sub(w.phaseAt)})
	}
	w.phase, w.phaseAt = phase, now
}

// askSwap begins a swap to what the command names now, or lets it queue behind
// the one under way. At most one queues: who asks while one does gets its
// verdict.
func (s *Service) askSwap(asked string, caller, proof chan<- control.Verdict) {
	s.want(wanted{asked: asked, caller: caller, proof: proof})
}

// wanted is what somebody asks for.
type wanted struct {
	asked         string
	back          bool                   // to what ran before, rather than to what the command names now
	canary        *Canary                // nil: as configured
	caller, proof chan<- control.Verdict // wait for the commit, for the end of probation; nil: nobody
}

// want is askSwap in general.
func (s *Service) want(a wanted) {
	refuse := func(reason string) {
		v := control.Verdict{Verdict: control.Failed, Reason: reason, Asked: a.asked, Start: time.Now()}
		answer(a.caller, v)
		answer(a.proof, v)
	}
	switch {
	case s.state.ending():
		refuse("the upgrader is stopping")
		return
	case a.back && s.backAtOnce(a.asked, a.caller, a.proof):
		return
	case a.back && s.previous == nil:
		refuse("nothing ran before what serves")
		return
	}
	w := s.queued
	if w == nil || w.back != a.back {
		if w != nil {
			s.dropQueued("another swap was asked for")
		}
		w = &swap{asked: a.asked, back: a.back}
		if !a.back {
			w.canary = s.config.Canary
		}
	}
	if a.canary != nil {
		w.canary = *a.canary
	}
	if a.caller != nil {
		w.callers = append(w.callers, a.caller)
	}
	if a.proof != nil {
		w.proofs = append(w.proofs, a.proof)
	}
	if s.state.busy() {
		s.queued = w
		return
	}
	s.beginSwap(w)
}

// beginSwap starts w now: nothing is under way.
func (s *Service) beginSwap(w *swap) {
	s.endProbation("another swap was asked for")
	s.again.begin(w)
	now := time.Now()
	s.swaps++
	w.number, w.began = s.swaps, now
	s.swap = w
	w.enter("prepare", now)
	recipe, err := s.previous, error(nil)
	if w.restore != nil && s.current != nil {
		recipe = s.current
	} else if !w.back {
		recipe, err = s.resolve()
	} else if recipe == nil {
		err = errors.New("nothing ran before what serves")
	}
	if err == nil {
		err = s.swappable()
	}
	if err != nil {
		w.from = s.serving
		s.observe(Event{What: EventSwapping, Message: w.asked})
		s.conclude(control.RolledBack, err.Error(), nil)
		s.swapAgain(err)
		return
	}
	g := s.newGeneration(recipe)
	w.from, w.to = s.serving, g
	s.observe(Event{What: EventSwapping, Generation: g.number, Message: w.asked})
	switch {
	case s.serving == nil: // nobody serves: an ordinary start, at once
		s.cancelRetry()
		s.move(BeginAsked)
		w.enter("start", now)
		s.begin(g)
	case s.memory != nil:
		s.prepare(g)
	case s.config.Strategy == Exclusive:
		s.replace(g)
	default:
		s.move(OverlapAsked)
		w.enter("start", now)
		s.begin(g)
	}
}

// replace begins an exclusive swap: clients queue for g while the predecessor
// is asked to quit.
func (s *Service) replace(g *generation) {
	predecessor := s.serving
	err := s.set.Prepare(g.number)
	if err == nil {
		err = s.set.Steer(g.number)
	}
	if err != nil && !noLane(err) {
		if err := s.set.Steer(predecessor.number); err != nil {
			s.note(predecessor, "new connections cannot be steered back", err)
		}
		s.set.Abandon(g.number)
		if s.state == Preparing {
			s.move(StartFailed)
		}
		s.forget(g)
		s.conclude(control.RolledBack, err.Error(), nil)
		return
	}
	s.move(ExclusiveAsked)
	s.swap.enter("settle", time.Now())
	s.setFallback(predecessor.recipe)
	s.armAhead(g)
	s.retire(predecessor, phaseLeaving, func() {
		s.serving = nil
		s.move(PredecessorGone)
		s.swap.enter("start", time.Now())
		s.begin(g)
	})
}

// commit gives the verdict of the swap that led to g, if one did.
func (s *Service) commit(g *generation) {
	if s.swap == nil || s.swap.to != g {
		return
	}
	s.conclude(control.Committed, "", nil)
}

// conclude gives the verdict of the swap under way. A committed one stays
// open while it is on probation.
func (s *Service) conclude(verdict, reason string, died *generation) {
	w := s.swap
	if w == nil {
		return
	}
	now := time.Now()
	w.enter("", now)
	v := control.Verdict{Swap: w.number, Verdict: verdict, Reason: reason, Late: w.late && verdict != control.Committed, Asked: w.asked, Start: w.began, Took: now.Sub(w.began), Phases: w.phases, Gap: s.measured(w, now)}
	if w.from != nil {
		v.From = w.from.number
	}
	if w.to != nil {
		v.To = w.to.number
		v.Stderr = w.to.tailLines()
	}
	if died != nil {
		v.Exit = died.exit()
		v.Stderr = died.tailLines()
	}
	changed := w.verdict != nil
	w.verdict = &v
	s.record(v, changed)
	what, message := EventCommitted, reason
	switch verdict {
	case control.RolledBack:
		what = EventRolled
	case control.Failed:
		what = EventFailed
	default:
		message = gapMessage(v.Gap)
	}
	s.observe(Event{What: what, Generation: v.To, Message: message, Took: v.Took, Warning: verdict != control.Committed})
	for _, c := range w.callers {
		answer(c, v)
	}
	w.callers = nil
	if verdict == control.Committed && s.state == Probation {
		return
	}
	s.settleSwap()
}

// settleSwap closes the swap under way: its verdict stands.
func (s *Service) settleSwap() {
	w := s.swap
	if w == nil {
		return
	}
	s.swap = nil
	s.copied(w)
	for _, c := range append(w.callers, w.proofs...) {
		answer(c, *w.verdict)
	}
}

// record keeps v among the last verdicts, in the place of the same swap's
// earlier one if changed.
func (s *Service) record(v control.Verdict, changed bool) {
	if n := len(s.verdicts); changed && n > 0 && s.verdicts[n-1].Swap == v.Swap {
		s.tally(s.verdicts[n-1], -1)
		s.verdicts[n-1] = v
	} else {
		s.verdicts = append(s.verdicts, v)
		if len(s.verdicts) > verdictsKept {
			s.verdicts = append(s.verdicts[:0:0], s.verdicts[1:]...)
		}
	}
	s.tally(v, 1)
}

func (s *Service) tally(v control.Verdict, n int) {
	s.totals.Add(v, n)
	switch v.Verdict {
	case control.Committed:
		s.counters.Committed += n
	case control.RolledBack:
		s.counters.RolledBack += n
	default:
		s.counters.Failed += n
	}
}

// nextQueued begins the swap that queues, if one does and nothing is under
// way.
func (s *Service) nextQueued() {
	if h := s.handing; h != nil && !h.begun && !s.state.busy() && !s.state.ending() {
		if s.config.Self.Gathered(func() { s.tell(func() {}) }) { // a fact of its own: it is looked at again
			s.beginHanding()
		}
		return
	}
	if w := s.queued; w != nil && !s.state.busy() && !s.state.ending() {
		s.queued = nil
		s.beginSwap(w)
	}
}

// dropQueued answers the swap that queues: there will be none, and why.
func (s *Service) dropQueued(why string) {
	if w := s.queued; w != nil {
		s.queued = nil
		v := control.Verdict{Verdict: control.Failed, Reason: why, Asked: w.asked, Start: time.Now()}
		for _, c := range append(w.callers, w.proofs...) {
			answer(c, v)
		}
	}
}

// answer puts v into a one-slot reply; nobody waits for one who left.
func answer(c chan<- control.Verdict, v control.Verdict) {
	if c == nil {
		return
	}
	select {
	case c <- v:
	default:
	}
}

// died says how g ended, for a reason.
func (g *generation) died() string {
	switch e := g.exit(); {
	case e == nil:
		return fmt.Sprintf("generation %d is gone", g.number)
	case e.Signal != "":
		return fmt.Sprintf("generation %d was killed by %s", g.number, e.Signal)
	default:
		return fmt.Sprintf("generation %d exited with status %d", g.number, e.Code)
	}
}
