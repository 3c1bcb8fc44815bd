package upgrader

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
)

// retire lets g go: once its lanes are quiet it is asked to quit, and killed
// as a whole at the deadline. then runs in the loop when nothing of it is left.
func (s *Service) retire(g *generation, as phase, then func()) {
	g.phase, g.then = as, then
	s.proxies.lives.leave(g.number)
	s.limitDraining()
	began := time.Now()
	delay := time.Duration(0)
	if as == phaseDraining && s.config.RetireDelay != nil {
		delay = s.config.RetireDelay()
	}
	heir, watched := s.serving, as == phaseLeaving && s.bindsItself()
	s.spawn(func() {
		switch {
		case as == phaseLeaving:
			s.drainProxies(g.grace, g)
		case heir != nil && heir != g:
			s.moveProxies(g.grace, heir)
		}
		if delay > 0 {
			wait, cancel := context.WithTimeout(g.grace, delay)
			<-wait.Done()
			cancel()
		}
		settled, err := s.settle(g)
		var ports *ownPorts
		if watched {
			ports = ownPortsOf(g.members, s.config.namedPorts())
		}
		s.tell(func() {
			if s.handsOff() { // whoever is in charge retires it
				return
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				s.note(g, "its lanes could not be watched", err)
			}
			message := "quiet"
			switch {
			case s.config.Settle == 0:
				message = "not waited for"
			case !settled.Quiet:
				message = "not quiet within settle-max"
			}
			s.observe(Event{What: EventLeaving, Generation: g.number, Pid: g.pid(), Took: time.Since(began), Message: message})
			if g.failed && settled.Queued > 0 { // nobody in it accepts: what waits there is relayed once it is gone
				s.kill(g, nil)
				return
			}
			if w := s.swap; w != nil && w.from == g && as == phaseLeaving {
				w.enter("stop", time.Now())
				s.watchPorts(ports)
				s.saving(g)
			}
			s.askToQuit(g, s.config.SwapSignal)
		})
	})
}

// settle waits until the lanes of g are quiet. Without a settle time nobody is waited for.
func (s *Service) settle(g *generation) (listener.Settled, error) {
	if s.config.Settle == 0 {
		return listener.Settled{}, nil
	}
	o := listener.SettleOptions{Quiet: s.config.Settle, Max: s.config.SettleMax, Inodes: g.members.Inodes}
	if len(s.proxies.all) > 0 && len(s.claims) == 0 {
		// The proxies know what is in flight. A held client whose server has got nothing but a PROXY
		// header would look like a question without an answer.
		o.Inodes = nil
	}
	settled, err := s.set.Settle(g.grace, g.number, o)
	if err != nil && g.grace.Err() == nil { // what is in flight cannot be seen here: what waits can
		o.Inodes = nil
		settled, _ = s.set.Settle(g.grace, g.number, o)
	}
	return settled, err
}

// askToQuit sends the signal that a server understands as "quit", and sees to
// it that g ends. It does so once for each generation: a full stop may come
// while g drains.
func (s *Service) askToQuit(g *generation, sig syscall.Signal) {
	if g.asked {
		return
	}
	g.asked = true
	if s.config.Quit != nil {
		s.quit(g)
	} else if err := g.signal(sig); err != nil && !errors.Is(err, process.ErrGone) {
		s.note(g, "the stop signal could not be sent", err)
	}
	timeout := s.config.StopTimeout
	switch {
	case s.state.ending():
	case g.phase == phaseDraining:
		timeout = s.config.DrainTimeout
	case g.phase == phaseLeaving:
		timeout = s.config.SwapTimeout
	}
	s.insist(g)
	s.awaitEndOf(g, timeout)
}

// insist sends the stop signal to every process of g if it has not quit after a
// while: a server that waits for its children, or that missed the first one,
// gets another chance before KILL.
func (s *Service) insist(g *generation) {
	if s.config.Insist == 0 {
		return
	}
	due := time.AfterFunc(s.config.Insist, func() {
		s.tell(func() {
			if g.phase == phaseGone || g.phase == phaseDying || s.handsOff() {
				return
			}
			s.observe(Event{What: EventInsist, Generation: g.number, Pid: g.pid(), Message: "it has not quit: all its processes are told", Warning: true})
			if err := g.members.Signal(s.config.StopSignal); err != nil {
				s.note(g, "the stop signal could not be sent to all its processes", err)
			}
		})
	})
	context.AfterFunc(g.run, func() { due.Stop() })
}

// kill ends g at once.
func (s *Service) kill(g *generation, then func()) {
	if then != nil {
		g.then = then
	}
	g.phase = phaseDying
	s.proxies.lives.leave(g.number)
	g.hurry()
	if !g.begun { // it waited for its turn
		s.gone(g)
		return
	}
	if g.members == nil || g.asked { // being started: launched() comes back here; being awaited: hurried
		return
	}
	g.asked = true
	s.awaitEndOf(g, s.config.StopTimeout)
}

// awaitEndOf has somebody wait for the end of g.
func (s *Service) awaitEndOf(g *generation, timeout time.Duration) {
	m, answered := s.memory, g.answered
	s.spawn(func() { s.awaitEnd(g, m, answered, timeout) })
}

// awaitEnd waits until no process of g is left, kills what is there after the
// timeout (0: never) or when it is hurried, and tells m and the loop. What
// answered, if it is not nil, waits for comes first: a server that has confirmed
// that it saved may end in any way.
func (s *Service) awaitEnd(g *generation, m *memory, answered <-chan struct{}, timeout time.Duration) {
	deadline, cancel := g.grace, context.CancelFunc(func() {})
	if timeout > 0 {
		deadline, cancel = context.WithTimeout(g.grace, timeout)
	}
	defer cancel()
	if g.child != nil { // its status is known, and it is reaped, before the rest is looked for
		select {
		case <-g.exited:
		case <-deadline.Done():
		}
	}
	if s.config.Linger > 0 {
		select { // an adopted one is no child
		case <-g.exited:
		case <-deadline.Done():
		}
		var enough context.CancelFunc
		deadline, enough = context.WithTimeout(deadline, s.config.Linger)
		defer enough()
	}
	err := deadline.Err()
	select {
	case <-g.exited: // mostly nobody else is there
		err = s.waitEmpty(deadline, g)
	default:
		if err == nil {
			err = s.waitEmpty(deadline, g)
		}
	}
	if s.run.Err() != nil {
		return // another upgrader sees to it
	}
	quit := err == nil && g.grace.Err() == nil
	if err != nil {
		late := g.grace.Err() == nil
		if late {
			s.tell(func() {
				s.observe(Event{What: EventKilled, Generation: g.number, Pid: g.pid(), Message: "it did not quit in time", Warning: true})
			})
		}
		if err := g.members.Kill(s.run); err != nil {
			s.tell(func() { s.cannotKill(g, err) })
			_ = s.waitEmpty(s.run, g) // nothing is started beside them
		}
	}
	if g.child != nil {
		<-g.exited // its status is known before it is gone
	}
	s.heardOut(g)
	if answered != nil {
		<-answered
	}
	s.memoryEnded(m, g, quit)
	s.tell(func() { s.gone(g) })
}

// cannotKill is told when processes of g run on although they were killed:
// setuid ones, say. Nobody is kept waiting for them by a full stop.
func (s *Service) cannotKill(g *generation, err error) {
	s.note(g, "some of its processes cannot be killed; their end is waited for", err)
	g.immortal = true
	if s.state.ending() {
		s.gone(g)
	}
}

// waitEmpty waits until no process of g is left. That they cannot be seen for
// a moment, for want of descriptors say, is no reason to kill them.
func (s *Service) waitEmpty(deadline context.Context, g *generation) error {
	for {
		err := g.members.WaitEmpty(deadline)
		if err == nil || deadline.Err() != nil {
			return err
		}
		pause(deadline)
	}
}

// gone is told when no process of g is left.
func (s *Service) gone(g *generation) {
	if _, known := s.generations[g.number]; !known {
		return
	}
	then := g.then
	if w := s.swap; w != nil && w.from == g {
		w.ports.gone(time.Now())
	}
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
	if w := s.starting; w != nil && !w.begun && s.alone(w) {
		s.start(w)
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
	switch {
	case s.state == Stopped:
		return
	case s.state == Taking:
		s.inheritance.stop = true
		s.giveUp(s.starting, errors.New("the new upgrader was told to stop"))
		return
	case s.handsOff():
		s.passStop()
		return
	case s.state == Handing:
		s.handing.stop(reason)
		return
	}
	if s.state == Stopping {
		s.proxies.hurried = true
		s.checkStopped()
		for _, g := range s.generations {
			s.kill(g, nil)
			if g.immortal {
				s.gone(g)
			}
		}
		return
	}
	s.cancelRetry()
	s.again.cancel()
	s.cancelProbation()
	s.result.Reason = reason
	s.move(StopAsked)
	s.observe(Event{What: EventStopping, Err: reason})
	s.finishProxies()
	switch w := s.swap; {
	case w == nil:
	case w.reason != "": // committed, it may be, but that is being undone
		s.conclude(control.Failed, w.reason+"; and the upgrader stopped", nil)
	case w.verdict == nil:
		s.conclude(control.Failed, "the upgrader stopped", nil)
	default:
		s.settleSwap()
	}
	s.crashOver(control.Failed, nil)
	s.dropQueued("the upgrader is stopping")
	s.starting = nil
	for _, g := range s.generations {
		switch {
		case g.immortal:
			s.gone(g)
		case g.phase == phaseDying:
		case g.members == nil: // not launched yet
			s.kill(g, nil)
		default: // one that is starting too: it may have begun to write something
			s.hastenDrain(g)
			s.askToQuit(g, s.config.StopSignal)
		}
	}
	s.checkStopped()
}

// hastenDrain gives g, which drains already, the deadline of a full stop, and
// the signal for it if that is another one.
func (s *Service) hastenDrain(g *generation) {
	if !g.asked || g.phase != phaseDraining {
		return
	}
	if s.config.StopTimeout > 0 {
		late := time.AfterFunc(s.config.StopTimeout, g.hurry)
		context.AfterFunc(g.grace, func() { late.Stop() })
	}
	if s.config.StopSignal != s.config.SwapSignal {
		_ = g.signal(s.config.StopSignal) // it may be gone: its end is awaited
	}
}

// checkStopped ends the full stop when nothing is left.
func (s *Service) checkStopped() {
	if s.state == Stopping && len(s.generations) == 0 && s.proxies.heardOut(s) {
		s.move(AllGone)
	}
}
