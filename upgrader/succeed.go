package upgrader

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/self"
	"github.com/upgrader/upgrader/upgrader/state"
	"github.com/upgrader/upgrader/upgrader/tail"
)

// inheritance is what we are to take over, until we have.
type inheritance struct {
	*self.Inheritance
	handed        handed
	parent        int // pid of the old upgrader
	lock, control *os.File
	sockets       map[int]*os.File // notify sockets by generation
	calls         map[int]*os.File // seccomp listeners
	flips         map[int]*flip    // what is shared with tableflip
	stop          bool             // a stop was asked for meanwhile
	assuming      bool             // the old upgrader was told that we are ready: there is no way back
}

// succeed takes what the old upgrader handed over, and changes nothing of it:
// that one is in charge.
func (s *Service) succeed(in *self.Inheritance) (err error) {
	s.inheritance = &inheritance{
		Inheritance: in, parent: os.Getppid(), lock: in.File("lock"), control: in.File("control"),
		sockets: map[int]*os.File{}, calls: map[int]*os.File{}, flips: map[int]*flip{},
	}
	h := &s.inheritance.handed
	if err := json.Unmarshal(in.State, h); err != nil {
		return fmt.Errorf("upgrader: what the old upgrader hands over is not understood: %w", err)
	}
	s.mark = h.Mark
	s.last, s.notifies = h.Last, h.Notifies
	s.began, s.served, s.swaps, s.restarts = h.Began, h.Served, h.Swaps, h.Restarts
	s.counters, s.totals, s.verdicts, s.refused, s.dropped = h.Counters, h.Totals, h.Verdicts, h.Refused, h.Dropped
	if err := takeLanes(s.set, in, "lane", h.Lanes); err != nil {
		return err
	}
	if err := s.takeParked(in, h); err != nil {
		return err
	}
	recipes := make([]*recipe, len(h.Recipes))
	for i, r := range h.Recipes {
		if recipes[i], err = r.take(in.File("held:" + strconv.Itoa(i))); err != nil {
			return err
		}
	}
	at := func(i int) *recipe {
		if i < 0 || i >= len(recipes) {
			return nil
		}
		return recipes[i]
	}
	for _, old := range h.Generations {
		n := strconv.Itoa(old.Number)
		s.inheritance.sockets[old.Number], s.inheritance.calls[old.Number] = in.File("notify:"+n), in.File("calls:"+n)
		if f := (flip{ready: in.File("flip-ready:" + n), names: in.File("flip-names:" + n)}); f != (flip{}) {
			s.inheritance.flips[old.Number] = &f
		}
		s.takeGeneration(old, at(old.Recipe))
	}
	if s.serving = s.generations[h.Serving]; s.serving == nil {
		return fmt.Errorf("upgrader: generation %d, which serves, was not handed over", h.Serving)
	}
	s.setCurrent(at(h.Current))
	s.previous = swapRecipe(s.previous, at(h.Previous))
	s.move(TakeAsked)
	return nil
}

// takeLanes makes the claims of a set anew, from the very same sockets.
func takeLanes(set *listener.Set, in *self.Inheritance, name string, st listener.State) error {
	set.Freeze()
	var lanes []*os.File
	for f := in.File(name); f != nil; f = in.File(name) {
		lanes = append(lanes, f)
		defer f.Close() // the set has its own
	}
	if err := set.AdoptFiles(st, lanes); err != nil {
		return fmt.Errorf("upgrader: take over the addresses: %w", err)
	}
	return nil
}

// takeGeneration makes a generation of ours of one that the old upgrader
// started, without watching it yet.
func (s *Service) takeGeneration(old *handedGeneration, r *recipe) {
	run, cancel := context.WithCancel(s.run)
	g := &generation{
		number: old.Number, recipe: r.use(), phase: old.Phase, adopted: true, begun: true, main: old.Main, exe: old.Executable, mark: old.Mark,
		members: process.NewMembers(old.Main, "", marks(old.Mark, old.Number)...),
		started: old.Started, ready: old.Ready, predecessor: old.Predecessor, follows: old.Follows, learns: old.Learns,
		run: run, cancel: cancel, proven: func() {}, exited: make(chan struct{}), listens: map[*listener.Lane]bool{},
	}
	for _, id := range old.Members {
		g.members.Add(id)
	}
	for _, l := range s.set.Lanes(g.number) {
		g.listens[l] = true // as far as it can be known
	}
	g.grace, g.hurry = context.WithCancel(run)
	s.generations[g.number] = g
	if s.proxies.lives.begin(g.number, g.main); old.Asked || old.Phase != phaseServing {
		s.proxies.lives.leave(g.number)
	}
}

// beginTaking starts our own generation beside the one that serves, or, where
// it must not, is ready to take over as it is.
func (s *Service) beginTaking() {
	h := s.inheritance.handed
	s.swap = &swap{number: s.swaps, asked: h.Asked, from: s.serving, began: time.Now()} // the old upgrader has counted it
	if s.movesAsItIs() {
		s.swap = nil
		s.assume(nil)
		return
	}
	s.swap.enter("start", s.swap.began)
	recipe, err := s.resolve()
	if err != nil {
		s.giveUp(nil, err)
		return
	}
	g := s.newGeneration(recipe)
	s.swap.to = g
	s.observe(Event{What: EventSwapping, Generation: g.number, Message: h.Asked})
	s.begin(g)
}

// giveUp ends this upgrader before it was in charge: the old one goes on.
func (s *Service) giveUp(g *generation, err error) {
	in := s.inheritance
	if in.assuming { // too late: see inCharge
		return
	}
	why := err.Error()
	if g != nil {
		for _, line := range g.tailLines() {
			why += "; stderr: " + line
		}
	}
	s.starting = nil
	s.result = Exit{Code: 111, Reason: err}
	in.Failed(oneLine(why))
	if g == nil {
		s.move(StartFailed)
		return
	}
	s.kill(g, func() { s.move(StartFailed) })
}

// assume tells the old upgrader that we are ready, g with us (nil: ours comes
// later), and waits until it has let go.
func (s *Service) assume(g *generation) {
	in := s.inheritance
	if in.assuming {
		return
	}
	if g != nil {
		g.proven()
		err := s.set.Relisten(g.number)
		if err == nil {
			err = s.set.Steer(g.number)
		}
		if err != nil && !noLane(err) {
			s.giveUp(g, err)
			return
		}
	}
	in.assuming = true
	s.spawn(func() {
		final, err := in.Ready(s.run, s.land)
		if err != nil {
			s.tell(func() { // unless this upgrader ends anyway
				in.assuming = false
				s.giveUp(g, err)
			})
			return
		}
		s.tell(func() { s.inCharge(g, final) })
	})
}

// inCharge is told when all is ours: final is how the old upgrader left it,
// nil if it died.
func (s *Service) inCharge(g *generation, final json.RawMessage) {
	in := s.inheritance
	s.inheritance = nil
	h := in.handed
	if final != nil {
		if err := json.Unmarshal(final, &h); err != nil {
			s.note(nil, "what the old upgrader left is not understood", err)
			h = in.handed
		}
	}
	if err := s.set.Thaw(); err != nil {
		s.note(nil, "the lanes are not all as they should be", err)
	}
	s.takeProxies()
	if err := s.takeFiles(in, h); err != nil {
		s.note(nil, "", err)
	}
	left := map[int]bool{}
	for _, old := range h.Generations {
		if one := s.generations[old.Number]; one != nil {
			left[old.Number] = true
			s.attend(one, old, in)
		}
	}
	for n, one := range s.generations {
		if one != g && !left[n] { // it ended while we began
			in.flips[n].close()
			s.exited(one)
			s.gone(one)
		}
	}
	for _, n := range s.set.Generations() {
		if s.generations[n] == nil {
			s.set.Retire(n) // late clients are looked after for another while
		}
	}
	close(s.charge)
	s.observe(Event{What: EventAdopted, Generation: s.serving.number, Pid: s.serving.pid(), Message: "taken over from the old upgrader"})
	if g == nil {
		s.move(TakenOver)
		s.queued = &swap{asked: h.Asked} // to a generation of ours
	} else {
		s.move(Taken)
	}
	switch {
	case in.stop:
		s.stop(nil)
	case g == nil:
	case g.ended:
		s.startFailed(g, fmt.Errorf("%s as the upgrader took over", g.died()))
		if err := s.set.Steer(s.serving.number); err != nil && !noLane(err) {
			s.note(s.serving, "new connections cannot be steered back", err)
		}
	default:
		s.becameReady(g)
	}
}

// takeFiles takes what only one upgrader can have: the lock, the pid file, the
// control socket, and the state that is saved.
func (s *Service) takeFiles(in *inheritance, h handed) error {
	f, err := &s.files, error(nil)
	if f.lock, err = f.dir.Inherit(in.lock, s.config.Name, s.config.Command); err != nil {
		s.note(nil, "the lock could not be inherited", err)
	}
	if s.config.PidFile != "" {
		if f.pid, err = state.WritePidFile(state.PidFileConfig{Path: s.config.PidFile, Predecessor: in.parent}); err != nil {
			s.note(nil, "the pid file could not be taken over", err)
		}
	}
	if s.config.StatusFile != "" {
		f.status = state.NewStatusFile(s.config.StatusFile)
	}
	s.keepStates()
	s.save()
	s.writeStatusFile()
	if s.config.Fleet != nil { // which answers for all
		return nil
	}
	server, err := control.Inherit(in.control, f.dir.Path(), handler{s})
	if err != nil {
		if server, err = control.Listen(f.dir.Path(), handler{s}); err != nil { // its path was removed
			return err
		}
	}
	s.answerQuestions(server)
	return nil
}

// attend watches an inherited generation from now on.
func (s *Service) attend(g *generation, old *handedGeneration, in *inheritance) {
	g.phase, g.notified, g.said, g.main = old.Phase, old.Notified, old.Said, old.Main
	for _, id := range old.Members {
		g.members.Add(id)
	}
	if path := s.stderrPath(g); s.config.Stderr == StderrTail {
		t, err := tail.Attach(tail.Config{Path: path, To: s.config.Stderrs}, old.Offset)
		if err != nil {
			s.note(g, "its stderr is not known any more", err)
		} else {
			g.tail = t
		}
	}
	if f := in.sockets[g.number]; f != nil {
		n, err := notify.Adopt(f, s.notifyPath(g))
		if err != nil {
			s.note(g, "its notify socket is not read any more", err)
		} else {
			g.notify = n
			s.hear(g, g.main.Pid)
		}
	}
	if g.calls = in.calls[g.number]; g.calls != nil {
		s.answerBinds(g)
	}
	if g.flip = in.flips[g.number]; g.flip != nil && g.flip.ready != nil {
		f := g.flip
		s.spawn(func() { s.hearFlip(g, g.main.Pid, f) })
	}
	s.watch(g, g.main)
	switch {
	case g == s.serving && g.phase == phaseServing:
		g.watchdog.every = old.Watchdog
		s.watchIt(g)
	case g.phase == phaseDying:
		s.kill(g, nil)
	case old.Asked:
		g.asked = true
		s.insist(g)
		s.awaitEndOf(g, s.config.DrainTimeout)
	default:
		s.retire(g, phaseDraining, nil)
	}
}
