package upgrader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/launch"
)

// rememberedParked is one parked descriptor, as it is found again in a server
// that outlived us.
type rememberedParked struct {
	Name string `json:"name"`
	Poll bool   `json:"poll"`
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
}

// openStore makes the store, before any server is heard.
func (s *Service) openStore() error {
	if s.config.StoreMax == 0 {
		return nil
	}
	store, err := notify.NewStore(notify.StoreConfig{Max: s.config.StoreMax, Gone: func(e notify.Entry) {
		s.tell(func() {
			s.dropped++
			s.saveSoon()
		})
	}})
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // and FDSTORE says nothing to the server
	}
	s.store = store
	return err
}

// recall puts what a killed upgrader kept into the store again, as far as a
// living server still has it open.
func (s *Service) recall(found remembered) {
	if s.store == nil || len(found.Parked) == 0 {
		return
	}
	got := 0
	for _, g := range s.generations {
		got += s.findParked(g, found.Parked)
	}
	if lost := len(found.Parked) - got; lost > 0 {
		s.note(nil, "", fmt.Errorf("%d of %d parked descriptors were lost with the upgrader before: no server had them open any more", lost, len(found.Parked)))
	}
}

// closeStore closes what is parked: nobody will ask for it.
func (s *Service) closeStore() {
	if s.store != nil {
		_ = s.store.Close() // never written to
	}
}

// park does what a message asks of the store. It runs in the goroutine that
// reads them: when it has returned, what was parked is parked.
func (s *Service) park(g *generation, m notify.Message) {
	if !m.FDStore && !m.FDStoreRemove {
		return
	}
	err := errors.New("the store is off (--store-max)")
	if s.store != nil {
		err = s.store.Handle(m)
	}
	s.tell(func() {
		if err != nil {
			if s.refused++; s.refused == 1 {
				s.note(g, "a descriptor was not parked; others are counted", err)
			}
		}
		s.saveSoon()
	})
}

// soon is how long what was parked may be unknown to a next upgrader: many
// descriptors are parked at once.
const soon = 50 * time.Millisecond

// saveSoon is save for what happens often.
func (s *Service) saveSoon() {
	if s.saveDue {
		return
	}
	s.saveDue = true
	time.AfterFunc(soon, func() {
		s.tell(func() {
			s.saveDue = false
			s.save()
		})
	})
}

// parkedNow is what is parked, for a next upgrader.
func (s *Service) parkedNow() []rememberedParked {
	if s.store == nil {
		return nil
	}
	var out []rememberedParked
	for _, e := range s.store.List() {
		out = append(out, rememberedParked{Name: e.Name, Poll: e.Poll, Dev: e.Dev, Ino: e.Ino})
	}
	return out
}

// heardOut returns when everything was heard that g said: what it parked with
// its last breath is parked. It is for goroutines.
func (s *Service) heardOut(g *generation) {
	if g.notify == nil {
		return
	}
	ctx, cancel := context.WithTimeout(g.run, 5*time.Second)
	defer cancel()
	if err := g.notify.Flush(ctx); err != nil && g.run.Err() == nil {
		s.tell(func() { s.note(g, "its last messages may not have been heard", err) })
	}
}

// passParked passes what is parked behind the lanes, where the dialect names it.
func (s *Service) passParked(a *armed, lanes []dialect.Lane) ([]dialect.Lane, error) {
	if s.store == nil || len(s.config.Numbers) > 0 || !slices.ContainsFunc(s.config.Dialects, func(d dialect.Dialect) bool { return d.Name() == "systemd" }) {
		return lanes, nil
	}
	entries, err := s.store.Duplicate()
	if err != nil {
		return lanes, err
	}
	for _, e := range entries {
		fd := dialect.FirstFd + len(lanes)
		lanes = append(lanes, dialect.Lane{Claim: e.Name, Fd: fd, Stored: true})
		a.order.Files = append(a.order.Files, launch.Passed{File: e.File, Number: fd})
		a.lent = append(a.lent, func() { _ = e.File.Close() }) // a duplicate
	}
	return lanes, nil
}

// namesShown is how many names of the store the status shows.
const namesShown = 100

// storeStatus is what the status tells of the store.
func (s *Service) storeStatus() *control.Store {
	if s.store == nil {
		return nil
	}
	c := &control.Store{Max: s.config.StoreMax, Refused: s.refused, Dropped: s.dropped, Names: map[string]int{}}
	for _, e := range s.store.List() {
		c.Parked++
		if _, shown := c.Names[e.Name]; shown || len(c.Names) < namesShown {
			c.Names[e.Name]++
		}
	}
	return c
}
