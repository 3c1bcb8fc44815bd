package upgrader

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/proxy"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/self"
)

// handing is a self-upgrade, from the wish to its end.
type handing struct {
	asked   string
	callers []chan<- control.Verdict
	begun   bool
	cancel  context.CancelFunc // ends the attempt and what came of it
	heir    *self.Heir         // is to take over: nothing is ours to do any more
	sealed  bool               // the state is not ours to write down any more
	resume  func()             // lets snapshots be taken again, which wait meanwhile
	stops   []error            // full stops that were asked for meanwhile, and why
	still   time.Time          // since when nothing moves in the proxies and the store
}

// stop ends an attempt that is under way. The full stop comes after it, or is
// the heir's, if it is too late.
func (h *handing) stop(reason error) {
	h.stops = append(h.stops, reason)
	h.cancel()
}

// askedSelf is who asked for a swap that comes with a new upgrader.
const askedSelf = "self-upgrade"

// relayTime is how long who leaves waits for late clients that it relays.
const relayTime = 5 * time.Second

// cleanTime is how long killing what came of a failed attempt may take.
const cleanTime = 10 * time.Second

// selfUpgrade replaces this upgrader for a client.
func (s *Service) selfUpgrade(ctx context.Context, asked string) (control.Answer, error) {
	if s.config.Self == nil {
		why := s.config.NoSelf
		if why == "" {
			why = self.ErrUnsupported.Error()
		}
		return control.Answer{}, &control.Error{Code: control.CodeUnsupported, Message: why}
	}
	reply := make(chan control.Verdict, 1)
	if !s.tell(func() { s.wishHanding(asked, reply) }) {
		return control.Answer{}, errStopping
	}
	v, err := s.awaitVerdict(ctx, reply)
	if err != nil {
		return control.Answer{}, err
	}
	return control.Answer{Verdict: &v}, nil
}

// wishHanding asks for a self-upgrade, which waits for a swap under way. Who
// asks while another is asked for gets that one's verdict.
func (s *Service) wishHanding(asked string, caller chan<- control.Verdict) {
	switch {
	case s.state.ending():
		answer(caller, control.Verdict{Verdict: control.Failed, Reason: "the upgrader is stopping", Asked: asked, Start: time.Now()})
	case s.tied() != "":
		answer(caller, control.Verdict{Verdict: control.Failed, Reason: s.tied(), Asked: asked, Start: time.Now()})
	case s.handing == nil:
		s.handing = &handing{asked: asked, callers: []chan<- control.Verdict{caller}}
	case s.swap != nil && s.handing.begun:
		s.swap.callers = append(s.swap.callers, caller)
	default:
		s.handing.callers = append(s.handing.callers, caller)
	}
}

// tied says what ties the service to this process, "" if nothing does.
func (s *Service) tied() string {
	switch {
	case len(s.config.Proxies) > 0 && !proxy.Transferable:
		return "the connections of a proxy end with the upgrader that holds them: on this system there is no self-upgrade with --proxy"
	}
	return ""
}

// beginHanding starts the new upgrader beside us. From now to its verdict
// nothing else is begun, and the lanes stay as they are.
func (s *Service) beginHanding() {
	h := s.handing
	h.begun = true
	s.endProbation("a self-upgrade was asked for")
	now := time.Now()
	s.swaps++
	s.swap = &swap{number: s.swaps, asked: h.asked, from: s.serving, began: now, callers: h.callers}
	s.swap.enter("start", now)
	s.observe(Event{What: EventUpgrading, Message: h.asked})
	if s.state != Serving {
		s.handing = nil
		s.conclude(control.Failed, "nobody serves: a self-upgrade starts the next generation beside the one that does", nil)
		return
	}
	if s.swap.to = s.serving; s.movesAsItIs() {
		s.swap.from = nil // it serves on: its successor comes when the new upgrader is in charge
	} else {
		s.swap.to = &generation{number: s.last + 1} // the new upgrader's
	}
	s.move(HandAsked)
	s.set.Freeze()
	if s.proxies.public != nil {
		s.proxies.public.Freeze()
	}
	var pauses []func()
	for _, g := range s.generations {
		if g.pauseBinds != nil {
			pauses = append(pauses, g.pauseBinds)
		}
	}
	quiet := s.holdSnapshots()
	attempt := rand.Text()
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(s.run)
	s.spawn(func() {
		for _, pause := range pauses { // what the servers ask for meanwhile waits in the kernel
			pause()
		}
		quiet(ctx)
		heir, err := s.startHeir(ctx, attempt, h.asked)
		if err == nil && !s.tell(func() { s.letGo(heir, attempt) }) {
			err = errOver
		}
		if err != nil {
			s.thawProxies()
			s.clean(attempt)
			s.tell(func() { s.kept(err) })
		}
	})
}

// holdSnapshots gives what waits until none is being taken, and lets none begin
// until the attempt has failed: the new upgrader takes its own in the same place.
func (s *Service) holdSnapshots() (quiet func(context.Context)) {
	m, held := s.memory, false
	s.handing.resume = func() {
		if held {
			<-m.turn
		}
	}
	return func(ctx context.Context) {
		if m == nil {
			return
		}
		select {
		case m.turn <- struct{}{}:
			held = true
		case <-ctx.Done(): // which ends the attempt
		}
	}
}

// startHeir starts the new upgrader and waits until it is ready.
func (s *Service) startHeir(ctx context.Context, attempt, asked string) (*self.Heir, error) {
	b, done, err := s.bundle(attempt, asked)
	defer done()
	if err != nil {
		return nil, err
	}
	return s.config.Self.Upgrade(ctx, b, func(send self.Send) error { return s.pass(ctx, send) })
}

// movesAsItIs reports whether a self-upgrade hands the serving generation over
// as it is, and swaps it afterwards: where two must not run at once, and where
// services are not to wait for one another.
func (s *Service) movesAsItIs() bool { return s.config.Strategy == Exclusive || s.config.Fleet != nil }

// clean kills all that came of an attempt that failed: it landed with us.
func (s *Service) clean(attempt string) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	if err := process.NewMembers(process.Identity{Pid: -1}, "", markOf(attempt)).Kill(ctx); err != nil {
		s.tell(func() { s.note(nil, "some of what the new upgrader started cannot be killed", err) })
	}
}

// kept is told when the new upgrader failed, and nothing of it is left: all is
// as it was.
func (s *Service) kept(err error) {
	s.handing.cancel()
	s.handing.resume()
	stops := s.handing.stops
	s.handing = nil
	for _, set := range []*listener.Set{s.set, s.proxies.public} {
		if set == nil {
			continue
		}
		if err := set.Thaw(); err != nil {
			s.note(nil, "the lanes are not as they were", err)
		}
	}
	s.hearAgain()
	if s.memory != nil {
		if err := s.memory.segment.Claim(); err != nil {
			s.note(nil, "the bridge page names another upgrader", err)
		}
	}
	for _, g := range s.generations {
		if g.calls != nil {
			s.answerBinds(g)
		}
	}
	s.move(HandFailed)
	if len(stops) > 0 {
		s.conclude(control.Failed, "the upgrader stopped", nil)
	} else {
		s.conclude(control.RolledBack, err.Error(), nil)
	}
	for _, reason := range stops {
		s.stop(reason)
	}
	if s.state.ending() {
		return
	}
	g := s.serving
	if c := s.config.Memory; c != nil && c.Made { // what was found meanwhile was let go
		m, last := s.memory, s.last
		s.spawn(func() { s.lookForMemory(g, m, last) })
	}
	if g.ended { // meanwhile
		s.died(g)
	}
}

// letGo lets everything go that the heir is to have, and tells it.
func (s *Service) letGo(heir *self.Heir, attempt string) {
	s.swap.enter("hand over", time.Now())
	asked := s.handing.asked
	s.handing.heir = heir
	if s.files.control != nil {
		s.files.control.Keep()
		s.files.control.HangUp() // no more questions; those that were asked are answered
	}
	var tails []*generation
	for _, g := range s.generations {
		if g.notify != nil {
			_ = g.notify.Release() // it is read no more
		}
		if g.tail != nil {
			tails = append(tails, g)
		}
	}
	s.spawn(func() {
		s.saved()
		_ = s.ask(s.run, func() { s.handing.sealed = true }) // nothing is written after it
		s.saved()
		offsets := map[*generation]int64{}
		for _, g := range tails {
			_ = g.tail.Release() // what is stuck is forwarded by the heir
			offsets[g] = g.tail.Offset()
		}
		var h handed
		err := s.ask(s.run, func() {
			for g, at := range offsets {
				g.offset = at
			}
			h, _ = s.handed(attempt, asked)
		})
		var state []byte
		if err == nil {
			h.look()
			state, err = json.Marshal(h)
		}
		if err == nil {
			err = heir.Release(state)
		}
		s.tell(func() { s.handedOver(heir, err) })
	})
}

// handedOver is told when the heir is in charge, or died in that very moment.
func (s *Service) handedOver(heir *self.Heir, err error) {
	if err != nil {
		s.spawn(s.thawProxies) // they are reset as we end
		s.result = Exit{Code: 111, Reason: fmt.Errorf("%w: the server runs on, start the upgrader again", err)}
		s.conclude(control.Failed, err.Error(), nil)
		s.move(HandedOver)
		return
	}
	e := Event{What: EventHandedOver, Pid: heir.Pid, Message: s.wentAlong()}
	if at := s.handing.still; !at.IsZero() { // else the heir is of a version that asked for nothing to be still
		e.Took = time.Since(at)
	}
	s.observe(e)
	s.conclude(control.Committed, "", nil)
	s.dropQueued(fmt.Sprintf("the upgrader was replaced by a new one, pid %d: ask that one", heir.Pid))
	s.result.Heir = heir.Pid
	var bound []<-chan struct{} // servers that die with us
	for _, g := range s.generations {
		if s.config.DieWithParent && g.child != nil && !g.ended {
			bound = append(bound, g.exited)
		}
	}
	if len(s.handing.stops) > 0 { // too late for us
		s.passStop()
	}
	s.spawn(func() {
		s.leaveProxies()
		ctx, cancel := context.WithTimeout(s.run, relayTime)
		defer cancel()
		_ = s.set.Relayed(ctx) // those that take longer are broken off
		for _, ended := range bound {
			<-ended
		}
		s.tell(func() { s.move(HandedOver) })
	})
}

// wentAlong says what the heir has beside the server.
func (s *Service) wentAlong() string {
	var n int64
	for _, p := range s.proxies.all {
		n += p.proxy.Stats().Sessions
	}
	switch parked := len(s.parkedNow()); {
	case len(s.proxies.all) > 0 && parked > 0:
		return fmt.Sprintf("with %d connections and %d parked descriptors", n, parked)
	case len(s.proxies.all) > 0:
		return fmt.Sprintf("with %d connections", n)
	case parked > 0:
		return fmt.Sprintf("with %d parked descriptors", parked)
	}
	return ""
}

// handsOff reports whether somebody else is in charge, or about to be: an heir
// of ours, or the upgrader that started us.
func (s *Service) handsOff() bool {
	return s.handing != nil && s.handing.heir != nil || s.inheritance != nil
}

// passStop tells the heir what we were told too late.
func (s *Service) passStop() {
	if err := s.handing.heir.Stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.note(nil, "the new upgrader could not be told to stop", err)
	}
}
