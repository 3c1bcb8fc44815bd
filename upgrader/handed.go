package upgrader

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/self"
)

// handed is what a new upgrader has to know: once when it starts, and once
// more as it was when the old one let go.
type handed struct {
	Asked       string              `json:"asked"`
	Mark        string              `json:"mark"` // of what the new one starts
	Last        int                 `json:"last"`
	Serving     int                 `json:"serving"`
	Notifies    bool                `json:"notifies"`
	Intercepts  bool                `json:"intercepts"`
	Began       time.Time           `json:"began"`
	Served      time.Time           `json:"served"`
	Swaps       int                 `json:"swaps"`
	Restarts    int                 `json:"restarts"`
	Counters    control.Counters    `json:"counters"`
	Totals      control.Totals      `json:"totals"`
	Verdicts    []control.Verdict   `json:"verdicts"`
	Recipes     []handedRecipe      `json:"recipes"`
	Current     int                 `json:"current"`  // index of a recipe; -1: none
	Previous    int                 `json:"previous"` // likewise
	Generations []*handedGeneration `json:"generations"`
	Lanes       listener.State      `json:"lanes"`
	Public      listener.State      `json:"public"`            // lanes of the proxies
	Private     map[string][]string `json:"private,omitempty"` // see remembered
	Parked      []rememberedParked  `json:"parked,omitempty"`  // in the store
	Refused     int                 `json:"refused"`
	Dropped     int                 `json:"dropped"`
}

// handedRecipe is a recipe; its file is held:INDEX.
type handedRecipe struct {
	Name     string   `json:"name"`
	Path     string   `json:"path"`
	Copy     string   `json:"copy,omitempty"`
	Args     []string `json:"args"`
	Env      []string `json:"env"`
	Served   bool     `json:"served,omitempty"`
	Notifies bool     `json:"notifies,omitempty"`
	Adopted  bool     `json:"adopted,omitempty"`
}

// handedGeneration is a generation that runs; its notify socket is notify:N,
// the seccomp listener calls:N, what it shares with tableflip flip-ready:N and
// flip-names:N. Its einhorn socket is not handed over: it is ready, which is
// all that is said there.
type handedGeneration struct {
	rememberedGeneration
	Recipe      int                `json:"recipe"` // -1: none
	Members     []process.Identity `json:"members,omitempty"`
	Predecessor int                `json:"predecessor,omitempty"`
	Notified    bool               `json:"notified,omitempty"`
	Said        string             `json:"said,omitempty"`
	Follows     bool               `json:"follows,omitempty"`
	Asked       bool               `json:"asked,omitempty"` // to quit
	Learns      bool               `json:"learns,omitempty"`
	Offset      int64              `json:"offset"`             // up to which its stderr was forwarded
	Watchdog    time.Duration      `json:"watchdog,omitempty"` // as it is, or as the server asked for it
	members     *process.Members
}

// handed is the state as it is now, for an attempt. The files of its recipes
// are lent, in order.
func (s *Service) handed(attempt, asked string) (h handed, held []*os.File) {
	h = handed{
		Asked: asked, Mark: attempt, Last: s.last, Serving: s.serving.number, Notifies: s.notifies, Intercepts: s.intercepts,
		Began: s.began, Served: s.served, Swaps: s.swaps, Restarts: s.restarts, Counters: s.counters, Totals: s.totals.Clone(), Verdicts: s.verdicts,
		Lanes: s.set.State(), Private: s.proxies.privates(), Refused: s.refused, Dropped: s.dropped,
	}
	if s.proxies.public != nil {
		h.Public = s.proxies.public.State()
	}
	var recipes []*recipe
	index := func(r *recipe) int {
		if r == nil {
			return -1
		}
		if i := slices.Index(recipes, r); i >= 0 {
			return i
		}
		recipes = append(recipes, r)
		held = append(held, r.held.File)
		h.Recipes = append(h.Recipes, handedRecipe{
			Name: r.held.Name, Path: r.held.Path, Copy: r.copy, Args: r.args, Env: r.env, Served: r.served, Notifies: r.notifies, Adopted: r.adopted,
		})
		return len(recipes) - 1
	}
	h.Current, h.Previous = index(s.current), index(s.previous)
	for _, old := range s.remembered().Generations {
		g := s.generations[old.Number]
		h.Generations = append(h.Generations, &handedGeneration{
			rememberedGeneration: old, Recipe: index(g.recipe), Predecessor: g.predecessor, Notified: g.notified, Said: g.said,
			Follows: g.follows, Asked: g.asked, Learns: g.learns, Offset: g.offset, Watchdog: g.watchdog.every, members: g.members,
		})
	}
	return h, held
}

// look fills in which processes are of each generation: others than those that
// carry its mark, too. It is for goroutines.
func (h *handed) look() {
	for _, g := range h.Generations {
		if g.members != nil {
			g.Members, _ = g.members.List() // the main process is known at least
		}
	}
}

// bundle is what the new upgrader gets for an attempt. done gives the
// descriptors back.
func (s *Service) bundle(attempt, asked string) (b self.Bundle, done func(), err error) {
	var mine []*os.File
	done = func() {
		for _, f := range mine {
			_ = f.Close() // duplicates
		}
	}
	add := func(name string, f *os.File, failed error) {
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("hand over %s: %w", name, failed))
			return
		}
		mine = append(mine, f)
		b.Files = append(b.Files, self.File{Name: name, File: f})
	}
	lend := func(name string, f *os.File) { // what it belongs to may end before it was sent
		if f != nil {
			own, err := self.Duplicate(f)
			add(name, own, err)
		}
	}
	var h handed
	asking := s.ask(s.run, func() {
		var held []*os.File
		h, held = s.handed(attempt, asked)
		for i, f := range held {
			lend("held:"+strconv.Itoa(i), f)
		}
		lanes := func(name string, set *listener.Set) {
			for _, c := range set.Claims() {
				for _, l := range set.LanesOn(c) {
					if f, err := l.Dup(); err == nil { // else it is closed, or was never ours
						add(name, f, nil)
					}
				}
			}
		}
		lanes("lane", s.set)
		if s.proxies.public != nil {
			lanes("public", s.proxies.public)
		}
		if s.store != nil {
			parked, err := s.store.Duplicate()
			for _, e := range parked {
				add("parked", e.File, nil)
				h.Parked = append(h.Parked, rememberedParked{Name: e.Name, Poll: e.Poll})
			}
			if err != nil {
				add("the store", nil, err)
			}
		}
		for n, g := range s.generations {
			if g.notify != nil {
				f, err := g.notify.File()
				add("notify:"+strconv.Itoa(n), f, err)
			}
			lend("calls:"+strconv.Itoa(n), g.calls)
			if g.flip != nil {
				lend("flip-ready:"+strconv.Itoa(n), g.flip.ready)
				lend("flip-names:"+strconv.Itoa(n), g.flip.names)
			}
		}
		f, err := s.files.lock.File()
		add("lock", f, err)
		if s.files.control != nil {
			f, err = s.files.control.File()
			add("control", f, err)
		}
		if s.memory != nil {
			hold := s.memory.segment.Hold()
			lend("segment", hold.Segment)
			lend("bridge", hold.Bridge)
			lend("bridge-lock", hold.Lock)
		}
		if s.config.Carry != nil {
			for _, c := range s.config.Carry() {
				lend(c.Name, c.File)
			}
		}
	})
	if err = errors.Join(err, asking); err != nil {
		return b, done, err
	}
	h.look()
	b.State, err = json.Marshal(h)
	return b, done, err
}

// take makes the recipe again.
func (h handedRecipe) take(f *os.File) (*recipe, error) {
	if f == nil {
		return nil, fmt.Errorf("upgrader: inherit %s: no descriptor of it came", h.Name)
	}
	held, err := launch.InheritHeld(f, h.Name, h.Path)
	if err != nil {
		return nil, err
	}
	return &recipe{held: held, copy: h.Copy, args: h.Args, env: h.Env, served: h.Served, notifies: h.Notifies, adopted: h.Adopted}, nil
}

// inheritedMemory are the segment's descriptors; zero when none came.
func inheritedMemory(in *inheritance) shmbridge.Inherited {
	if in == nil {
		return shmbridge.Inherited{}
	}
	return shmbridge.Inherited{Segment: in.File("segment"), Bridge: in.File("bridge"), Lock: in.File("bridge-lock")}
}
