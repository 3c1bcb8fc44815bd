package upgrader

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
)

// Stop asks for a graceful full stop; a second time for one at once.
func (s *Service) Stop() { s.tell(func() { s.stop(nil) }) }

// StopWith is Stop with another signal than Config.StopSignal. Of several
// wishes to stop, the first one's counts.
func (s *Service) StopWith(sig syscall.Signal) {
	s.tell(func() {
		if !s.state.ending() {
			s.config.StopSignal = sig
			s.stop(nil)
		}
	})
}

// Kill asks for a full stop at once.
func (s *Service) Kill() {
	s.tell(func() {
		if !s.state.ending() {
			s.stop(nil)
		}
		s.stop(nil)
	})
}

// Alive returns when the service answers: nil, or why it does not.
func (s *Service) Alive(ctx context.Context) error { return s.ask(ctx, func() {}) }

// Swap asks for a swap; asked says who did, for the verdict.
func (s *Service) Swap(asked string) { s.tell(func() { s.askSwap(asked, nil, nil) }) }

// Signal sends sig to the main process of the serving generation.
func (s *Service) Signal(sig syscall.Signal) {
	s.tell(func() {
		for _, g := range []*generation{s.serving, s.starting} {
			if g != nil {
				_ = g.signal(sig) // it may be gone: its end is told elsewhere
				return
			}
		}
	})
}

// Status tells how the service is.
func (s *Service) Status(ctx context.Context) (control.Status, error) {
	var st control.Status
	members := map[int]*process.Members{}
	var claims []*listener.Claim // as in st
	err := s.ask(ctx, func() {
		st = control.Status{
			Version: control.StatusVersion, Name: s.config.Name, ID: s.config.ID, Zone: s.config.Zone, Type: s.config.Type, Command: s.config.Command, Pid: os.Getpid(),
			State: string(s.state), Since: s.since, Started: s.began, Strategy: string(s.config.Strategy),
			Generations: []control.Generation{}, Claims: []control.Claim{}, Swaps: s.counters, Totals: s.totals.Clone(),
			Verdicts: append([]control.Verdict{}, s.verdicts...), Restarts: s.restarts, Refusing: s.hold.refusing, Message: s.message,
		}
		for _, n := range slices.Sorted(maps.Keys(s.generations)) {
			g := s.generations[n]
			info := control.Generation{
				Number: n, Pid: g.pid(), State: string(g.phase), Started: g.started, Ready: g.ready,
				Lanes: len(s.set.Lanes(n)), Message: g.said,
			}
			if g.phase == phaseDying {
				info.State = control.GenerationDraining
			}
			switch {
			case g.adopted:
				info.Executable = g.exe.Path
			case g.recipe != nil:
				info.Executable = g.recipe.held.Name
			}
			members[n] = g.members
			st.Generations = append(st.Generations, info)
		}
		st.Segment = s.segmentStatus()
		st.Proxies = s.proxyStatus()
		st.Store = s.storeStatus()
		if st.Store != nil {
			st.Parked = st.Store.Parked
		}
		if st.Message == "" && s.serving != nil {
			st.Message = s.serving.said
		}
		claims = s.set.Claims()
		for _, c := range claims {
			info := control.Claim{Name: c.Name(), Address: c.String(), InFlight: -1, Lanes: []control.LaneInfo{}}
			for _, l := range s.set.LanesOn(c) {
				state := "held"
				switch {
				case l.Steered():
					state = "steered"
				case l.Share() > 0:
					state = "shared"
				case s.starting != nil && l.Generation() == s.starting.number:
					state = "waiting"
				}
				info.Lanes = append(info.Lanes, control.LaneInfo{Generation: l.Generation(), State: state, Share: l.Share(), Queue: -1, Cookie: l.Cookie()})
			}
			st.Claims = append(st.Claims, info)
		}
	})
	for i := range st.Generations {
		if m := members[st.Generations[i].Number]; m != nil {
			st.Generations[i].Members = len(m.Pids())
		}
	}
	for i, c := range claims {
		s.load(c, &st.Claims[i])
	}
	return st, err
}

// load tells what waits on a claim and what is in flight, as far as it can be seen.
func (s *Service) load(c *listener.Claim, info *control.Claim) {
	load, err := s.set.Load(c)
	if err != nil {
		return
	}
	info.InFlight = load.InFlight
	for i := range info.Lanes {
		if n, known := load.Queues[info.Lanes[i].Cookie]; known {
			info.Lanes[i].Queue = n
		}
	}
}

// InCharge is closed once this upgrader is the one that decides: at once,
// unless it takes over from another.
func (s *Service) InCharge() <-chan struct{} { return s.charge }

// Handler is the service for the control socket and the HTTP API.
func (s *Service) Handler() control.Handler { return handler{s} }

// handler is the service as the control socket sees it.
type handler struct{ *Service }

var errStopping = &control.Error{Code: control.CodeStopping, Message: "the upgrader is stopping"}

// Do does what was asked.
func (h handler) Do(ctx context.Context, r control.Request) (control.Answer, error) {
	s := h.Service
	switch r.Do {
	case control.DoRestart, control.DoRollback:
		return s.restart(ctx, r)
	case control.DoSnapshot:
		return s.snapshot(ctx, r)
	case control.DoSelfUpgrade:
		return s.selfUpgrade(ctx, askedSelf)
	case control.DoReload:
		return control.Answer{}, s.reload(ctx)
	case control.DoStop:
		stop := s.Stop
		if r.Args.Now {
			stop = s.Kill
		}
		stop()
		select {
		case <-s.run.Done():
			return control.Answer{Message: "stopped"}, nil
		case <-ctx.Done():
			<-s.run.Done()
			return control.Answer{Message: "stopped"}, nil
		}
	default:
		return control.Answer{}, &control.Error{Code: control.CodeUnsupported, Message: r.Do + " is not something that this upgrader does"}
	}
}

// restart swaps for a client of the control socket.
func (s *Service) restart(ctx context.Context, r control.Request) (control.Answer, error) {
	want := wanted{asked: r.Asked, back: r.Do == control.DoRollback}
	if len(r.Args.Canary) > 0 {
		if want.back || s.config.Strategy == Exclusive || s.config.Memory != nil || len(s.config.Proxies) > 0 {
			return control.Answer{}, &control.Error{Code: control.CodeBadRequest, Message: errCanary.Error()}
		}
		c := Canary{Steps: r.Args.Canary, Step: s.config.Canary.Step}
		if r.Args.Step > 0 {
			c.Step = r.Args.Step
		}
		want.canary = &c
	}
	if r.Args.NoWait {
		if !s.tell(func() { s.want(want) }) {
			return control.Answer{}, errStopping
		}
		return control.Answer{Message: "begun"}, nil
	}
	v, err := s.wantAndWait(ctx, want, r.Args.WaitProbation)
	if err != nil {
		return control.Answer{}, err
	}
	return control.Answer{Verdict: &v}, nil
}

// SwapAndWait asks for a swap and waits for its verdict, which is that of the
// commit: probation may change it.
func (s *Service) SwapAndWait(ctx context.Context, asked string) (control.Verdict, error) {
	return s.wantAndWait(ctx, wanted{asked: asked}, false)
}

// wantAndWait waits for the verdict at the commit, or at the end of probation.
func (s *Service) wantAndWait(ctx context.Context, a wanted, probation bool) (control.Verdict, error) {
	reply := make(chan control.Verdict, 1)
	if a.caller = reply; probation {
		a.caller, a.proof = nil, reply
	}
	if !s.tell(func() { s.want(a) }) {
		return control.Verdict{}, errStopping
	}
	return s.awaitVerdict(ctx, reply)
}

// awaitVerdict waits for the one that was asked for.
func (s *Service) awaitVerdict(ctx context.Context, reply <-chan control.Verdict) (control.Verdict, error) {
	select {
	case v := <-reply:
		return v, nil
	case <-ctx.Done():
		return control.Verdict{}, ctx.Err()
	case <-s.run.Done():
	}
	select {
	case v := <-reply: // it was given before the end
		return v, nil
	default:
		return control.Verdict{}, errStopping
	}
}

// reload has the serving generation read its configuration again.
func (s *Service) reload(ctx context.Context) error {
	var cmd *exec.Cmd
	var result error
	err := s.ask(ctx, func() {
		switch {
		case s.serving == nil:
			result = &control.Error{Code: control.CodeFailed, Message: "nobody serves"}
		case s.config.ReloadCmd == "":
			result = s.serving.signal(s.config.ReloadSig)
		default:
			cmd = shell(ctx, s.config.ReloadCmd)
			cmd.Dir = s.config.Dir
			env := s.config.Environ
			if r := s.serving.recipe; r != nil { // nil: adopted, and not to be looked at
				env = r.env
			}
			cmd.Env = append(slices.Clone(env), "MAINPID="+strconv.Itoa(s.serving.pid()))
		}
	})
	if err != nil || result != nil || cmd == nil {
		return firstError(err, result)
	}
	return s.runCommand(cmd, "reload-cmd")
}

// Events calls emit for what happens from now on.
func (h handler) Events(ctx context.Context, emit func(control.Event) error) error {
	events, end := h.events.subscribe()
	defer end()
	for {
		select {
		case e := <-events:
			if err := emit(control.Event{
				Time: e.Time, What: e.What, State: string(e.State), Generation: e.Generation, Pid: e.Pid,
				Message: e.Message, Took: e.Took, Error: e.Error, Warning: e.Warning,
			}); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		case <-h.run.Done():
			return nil
		}
	}
}

// runCommand runs a command of the operator's and gives what it said when it
// failed.
func (s *Service) runCommand(cmd *exec.Cmd, what string) error {
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	return fmt.Errorf("upgrader: %s: %w: %s", what, err, lastLine(out))
}
