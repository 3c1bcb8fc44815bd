package upgrader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/state"
	"github.com/upgrader/upgrader/upgrader/tail"
)

// remembered is what the next upgrader finds if this one is killed.
type remembered struct {
	Mark        string                 `json:"mark"`
	Notifies    bool                   `json:"notifies"`
	Last        int                    `json:"last"`
	Generations []rememberedGeneration `json:"generations"`
	Lanes       listener.State         `json:"lanes"`
	Private     map[string][]string    `json:"private,omitempty"` // by public address: what the server's binds of it became
	Parked      []rememberedParked     `json:"parked,omitempty"`
}

type rememberedGeneration struct {
	Number     int              `json:"number"`
	Mark       string           `json:"mark,omitempty"` // of its own; "": that of all
	Phase      phase            `json:"phase"`
	Main       process.Identity `json:"main"`
	Executable process.Exe      `json:"executable"`
	Started    time.Time        `json:"started"`
	Ready      time.Time        `json:"ready"`
}

// remembered is the state as it is now.
func (s *Service) remembered() remembered {
	r := remembered{Mark: s.mark, Notifies: s.notifies, Last: s.last, Lanes: s.set.State(), Private: s.proxies.privates(), Parked: s.parkedNow()}
	for _, g := range s.generations {
		if !g.begun {
			continue
		}
		if g.exe.Ino == 0 && g.main.Start != 0 {
			g.exe, _ = g.main.Executable() // a zero one is not compared
		}
		r.Generations = append(r.Generations, rememberedGeneration{Number: g.number, Mark: g.mark, Phase: g.phase, Main: g.main, Executable: g.exe, Started: g.started, Ready: g.ready})
	}
	slices.SortFunc(r.Generations, func(a, b rememberedGeneration) int { return a.Number - b.Number })
	return r
}

// remember finds what an upgrader that was killed left running, and takes its
// lanes. Generations are proved by pid, start time and executable.
func (s *Service) remember() (remembered, error) {
	var r remembered
	b, err := s.files.dir.Load()
	switch {
	case errors.Is(err, state.ErrNone), errors.Is(err, state.ErrOtherBoot):
		return r, nil
	case err != nil:
		s.note(nil, "what the last upgrader wrote is not understood; a server that it left running is not found", err)
		return r, nil
	}
	if err := json.Unmarshal(b, &r); err != nil {
		s.note(nil, "what the last upgrader wrote is not understood; a server that it left running is not found", err)
		return remembered{}, nil
	}
	for i, g := range r.Generations {
		if g.Mark == "" {
			r.Generations[i].Mark, g.Mark = r.Mark, r.Mark
		}
		if g.Main.Start == 0 { // it was being launched
			if left, err := process.NewMembers(process.Identity{Pid: -1}, "", marks(g.Mark, g.Number)...).List(); err == nil && len(left) > 0 {
				r.Generations[i].Main = left[0]
			}
		}
	}
	r.Generations = slices.DeleteFunc(r.Generations, func(g rememberedGeneration) bool {
		if !g.Main.Alive() {
			return true
		}
		exe, err := g.Main.Executable()
		same := err != nil || g.Executable.Ino == 0 || exe.Dev == g.Executable.Dev && exe.Ino == g.Executable.Ino
		// A script that became its program since has another one, and our mark in its environment.
		return !same && !process.NewMembers(process.Identity{Pid: -1}, "", marks(g.Mark, g.Number)...).Has(g.Main.Pid)
	})
	s.last = r.Last
	if len(r.Generations) == 0 {
		return r, nil
	}
	s.notifies = r.Notifies
	serving := s.heirOf(r)
	var pidfds []*os.File
	members := process.NewMembers(serving.Main, "", marks(serving.Mark, serving.Number)...)
	ids, err := members.List()
	if err != nil {
		return r, err
	}
	for _, id := range ids {
		if f, err := id.Pidfd(); err == nil {
			pidfds = append(pidfds, f)
			defer f.Close()
		}
	}
	if err := s.set.Adopt(r.Lanes, serving.Number, pidfds...); err != nil {
		return r, fmt.Errorf("upgrader: take over the addresses of pid %d: %w", serving.Main.Pid, err)
	}
	s.move(BeginAsked)
	for _, old := range r.Generations {
		g := s.adopt(old)
		if old.Number != serving.Number {
			s.retire(g, phaseDraining, nil)
			continue
		}
		recipe, err := recipeOf(old.Main)
		s.servesOn(g, recipe, err)
		s.queued = &swap{asked: "adoption"}
	}
	return r, nil
}

// heirOf is the generation that serves, or comes nearest to it.
func (s *Service) heirOf(r remembered) rememberedGeneration {
	for _, want := range []phase{phaseServing, phaseLeaving, phaseCanary, phaseStarting, phaseWarm, phaseDraining} {
		for _, g := range slices.Backward(r.Generations) {
			if g.Phase == want {
				return g
			}
		}
	}
	return r.Generations[len(r.Generations)-1]
}

// markOf is the variable that all processes of one upgrader carry.
func markOf(mark string) string { return "UPGRADER_MARK=" + mark }

func marks(mark string, generation int) []string {
	return []string{markOf(mark), "UPGRADER_GENERATION=" + strconv.Itoa(generation)}
}

// adopt makes a generation of ours of one that we did not start. Its lanes are
// there already.
func (s *Service) adopt(old rememberedGeneration) *generation {
	run, cancel := context.WithCancel(s.run)
	g := &generation{
		number: old.Number, phase: phaseServing, adopted: true, begun: true, mark: old.Mark, main: old.Main, exe: old.Executable,
		members: process.NewMembers(old.Main, "", marks(old.Mark, old.Number)...),
		started: old.Started, ready: old.Ready, run: run, cancel: cancel, proven: func() {},
		exited: make(chan struct{}), listens: map[*listener.Lane]bool{},
	}
	g.grace, g.hurry = context.WithCancel(run)
	if g.ready.IsZero() { // it may serve by now; that it runs is all we know
		g.ready = time.Now()
	}
	s.generations[g.number] = g
	if s.config.Stderr == StderrTail {
		if t, err := tail.Attach(tail.Config{Path: s.stderrPath(g), To: s.config.Stderrs}, -1); err == nil {
			g.tail = t
		} // it wrote elsewhere: its lines are not known
	}
	s.proxies.lives.begin(g.number, g.main)
	if n, err := s.notifySocket(g); err == nil && n != nil { // by its path, it is heard again
		g.notify = n
		s.hear(g, old.Main.Pid)
	}
	s.watch(g, g.main)
	s.observe(Event{What: EventAdopted, Generation: g.number, Pid: g.pid(), Message: old.Executable.Path})
	for _, lane := range s.set.Lanes(g.number) {
		g.listens[lane] = true
	}
	return g
}

// servesOn makes g, which is adopted, the one that serves; r is what it is
// started from again.
func (s *Service) servesOn(g *generation, r *recipe, err error) {
	if err != nil {
		s.note(g, "it could not be started again if its successor fails", err)
	} else {
		g.recipe = r.use()
		s.setCurrent(r)
	}
	s.serving, s.served = g, time.Now()
	s.move(Ready)
}
