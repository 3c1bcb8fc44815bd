package upgrader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/upgrader/process"
)

// Outsiders say how processes of this very server are known that somebody else
// started: the one that serves when we come, and those that operators start
// beside ours. None of them may go on beside a generation of ours, and nobody
// is signalled who is not proved to be one.
type Outsiders struct {
	PidFile string                                    // the file that the server writes its pid to; absolute
	Same    func(id process.Identity) (bool, error)   // proves that a process is this server; an error: it cannot be told
	Args    func(command []string) (rewrite []string) // the command of one as we would start it; nil: it cannot be
}

// check refuses what cannot be.
func (o *Outsiders) check(c *Config) error {
	if o == nil {
		return nil
	}
	if c.Strategy != Exclusive {
		return usage("a server that ends others of its kind goes with --strategy exclusive only")
	}
	return nil
}

// watchEvery is how often the pid file is looked at. That our own server was
// ended by an outsider is told by its death, at once.
const watchEvery = 250 * time.Millisecond

// find gives the outsiders, those that started first before the others. Those
// that cannot be looked at, of other users mostly, are not proved.
func (o *Outsiders) find(ours func(pid int) bool) ([]process.Identity, error) {
	all, err := process.All()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(id process.Identity) bool {
		same, err := o.Same(id)
		return err != nil || !same || ours(id.Pid)
	}), nil
}

// named gives the process that the pid file names, if it runs.
func (o *Outsiders) named() (process.Identity, bool) {
	pid, err := readPid(o.PidFile)
	if err != nil || pid == os.Getpid() {
		return process.Identity{}, false
	}
	id, err := process.Of(pid)
	return id, err == nil
}

// adoptOutsider makes the first generation of the process that the pid file
// names, if it is proved to be this server. It is swapped as soon as the loop
// runs.
func (s *Service) adoptOutsider() error {
	o := s.config.Outsiders
	if o == nil || s.serving != nil {
		return nil
	}
	id, err := s.outsider()
	if err != nil || id.Pid == 0 {
		return err
	}
	exe, err := id.Executable()
	if err != nil {
		return err
	}
	s.last++
	s.move(BeginAsked)
	g := s.adopt(rememberedGeneration{Number: s.last, Phase: phaseServing, Main: id, Executable: exe, Started: time.Now(), Ready: time.Now()})
	recipe, err := recipeOf(id)
	if err == nil {
		if args := o.Args(recipe.args); args != nil {
			recipe.args = args
		}
	}
	s.servesOn(g, recipe, err)
	s.queued = &swap{asked: "takeover of pid " + strconv.Itoa(id.Pid)}
	return nil
}

// outsider is the process that the pid file names, else the oldest one that is
// proved to be this server; the zero Identity: there is none.
func (s *Service) outsider() (process.Identity, error) {
	o := s.config.Outsiders
	if id, running := o.named(); running {
		switch same, err := o.Same(id); {
		case err != nil:
			return id, fmt.Errorf("upgrader: %s names pid %d, and whether that is this server cannot be told: %w", o.PidFile, id.Pid, err)
		case same:
			return id, nil
		}
		s.note(nil, fmt.Sprintf("%s names pid %d, which is not proved to be this server: it is left alone", o.PidFile, id.Pid), nil)
	}
	all, err := o.find(func(int) bool { return false })
	if err != nil || len(all) == 0 {
		return process.Identity{}, err
	}
	return all[0], nil
}

// endOutsiders ends those that are left before g starts, and removes the pid
// file: what it names is gone, or is ours and lingers.
func (s *Service) endOutsiders(g *generation, ours func(pid int) bool) error {
	o := s.config.Outsiders
	if o == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(g.grace, s.config.ReadyTimeout)
	defer cancel()
	for {
		left, err := o.find(ours)
		if err != nil {
			return fmt.Errorf("look for outsiders: %w", err)
		}
		if len(left) == 0 {
			break
		}
		for _, id := range left {
			if err := s.endOutsider(ctx, id); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(o.PidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the pid file that another generation wrote: %w", err)
	}
	return nil
}

// endOutsider ends one. What has the segment is asked to leave it as a
// predecessor is; what has not come that far is killed.
func (s *Service) endOutsider(ctx context.Context, id process.Identity) error {
	s.tell(func() {
		s.observe(Event{What: EventOutsider, Pid: id.Pid, Message: "somebody else started this server: it is ended", Warning: true})
	})
	var err error
	if s.config.Quit != nil {
		err = s.askOutsider(ctx, id)
	} else if s.attached(id.Pid) {
		if err = id.Signal(s.config.SwapSignal); err == nil {
			quit, cancel := ctx, context.CancelFunc(func() {})
			if s.config.SwapTimeout > 0 {
				quit, cancel = context.WithTimeout(ctx, s.config.SwapTimeout)
			}
			_ = id.Wait(quit) // it is killed then
			cancel()
		}
	}
	if err == nil {
		err = id.Signal(syscall.SIGKILL)
	}
	if err == nil {
		err = id.Wait(ctx)
	}
	if err == nil || errors.Is(err, process.ErrGone) {
		return nil
	}
	return fmt.Errorf("pid %d was started by somebody else, and cannot be ended: %w", id.Pid, err)
}

// How often, and how long each time, an outsider is asked to confirm that it has saved, whatever the policy for
// predecessors: it writes beside ours meanwhile. One that is asked while it starts may never hear of it.
const (
	outsiderAsked = 5
	outsiderTime  = 3 * time.Second
)

// askOutsider asks one to quit in the service's way. One that has confirmed is
// waited for where nobody but itself holds its memory.
func (s *Service) askOutsider(ctx context.Context, id process.Identity) error {
	for range outsiderAsked {
		soon, cancel := context.WithTimeout(ctx, outsiderTime)
		answer, err := s.config.Quit.Ask(soon, id, QuitSwap)
		late := soon.Err() != nil && ctx.Err() == nil
		cancel()
		if !late {
			return s.outsiderAnswered(ctx, id, answer, err)
		}
	}
	return nil // it is killed
}

func (s *Service) outsiderAnswered(ctx context.Context, id process.Identity, answer Answer, err error) error {
	if err != nil || answer != AnswerConfirmed {
		return err
	}
	if _, err := s.shared(ctx); err != nil {
		return id.Wait(ctx)
	}
	return nil
}

// attached reports whether a process maps the segment, or may.
func (s *Service) attached(pid int) bool {
	m, err := s.shared(s.run)
	if err != nil {
		return false // there is none
	}
	who, err := m.segment.MappedBy()
	return err != nil || slices.Contains(who.Pids, pid)
}

// watchOutsiders looks whether the pid file still names our server, and who
// else is there when it does not.
func (s *Service) watchOutsiders() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	seen := watched{}
	for {
		select {
		case <-tick.C:
		case <-s.run.Done():
			return
		}
		var now watched
		var ours func(pid int) bool
		err := s.ask(s.run, func() {
			if g := s.serving; g != nil && (s.state == Serving || s.state == Probation) {
				now.serving, ours = g, s.isOurs()
			}
		})
		if err != nil || now.serving == nil {
			continue
		}
		now.named, _ = readPid(s.config.Outsiders.PidFile) // 0: it names none
		if now == seen {
			continue
		}
		seen = now
		s.lookAround(now, ours)
	}
}

// watched is what the watch compares.
type watched struct {
	serving *generation
	named   int
}

// lookAround ends whoever is not ours, and swaps what serves beside it then:
// its memory, and its pid file, were touched.
func (s *Service) lookAround(now watched, ours func(pid int) bool) {
	o := s.config.Outsiders
	found, err := o.find(ours)
	if err != nil {
		return // looked at again with the next change
	}
	elsewhere := false // then what was found may be another upgrader's
	if err := s.ask(s.run, func() { elsewhere = s.handsOff() }); err != nil || elsewhere {
		return
	}
	if len(found) == 0 {
		if !ours(now.named) {
			s.tell(func() {
				s.observe(Event{What: EventNote, Generation: now.serving.number, Message: fmt.Sprintf("%s names pid %d, the server that was started is pid %d", o.PidFile, now.named, now.serving.pid()), Warning: true})
			})
		}
		return
	}
	for _, id := range found {
		if err := s.endOutsider(now.serving.grace, id); err != nil {
			s.tell(func() { s.note(now.serving, "an outsider stays", err) })
		}
	}
	s.tell(func() {
		if s.serving == now.serving && now.serving.phase == phaseServing {
			s.askSwap("an outsider's start", nil, nil)
		}
	})
}

// isOurs tells of a pid whether it is of a generation. The func is for
// goroutines.
func (s *Service) isOurs() func(pid int) bool {
	var all []*process.Members
	mains := map[int]bool{}
	for _, g := range s.generations {
		mains[g.pid()] = true
		if g.members != nil {
			all = append(all, g.members)
		}
	}
	return func(pid int) bool {
		return mains[pid] || slices.ContainsFunc(all, func(m *process.Members) bool { return m.Has(pid) })
	}
}
