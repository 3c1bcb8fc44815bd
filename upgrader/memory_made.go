package upgrader

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/upgrader/upgrader/shmbridge"
)

// sound says whether the segment is what its name says, and what a successor
// could go on from. It is asked before a predecessor is told to quit.
func (m *memory) sound() error {
	err := m.segment.Check()
	if err == nil && m.Inspect != nil {
		err = m.segment.Look(m.Inspect)
	}
	return err
}

// lookForMemory looks for the segment that g, which has become ready, may have
// made: the first one, or another one in the place of m.
func (s *Service) lookForMemory(g *generation, m *memory, last int) {
	if m != nil && !errors.Is(m.segment.Check(), shmbridge.ErrRemoved) {
		return
	}
	made, err := s.openSegment(last, g, shmbridge.Inherited{})
	if errors.Is(err, fs.ErrNotExist) {
		return // a server without one
	}
	told := s.tell(func() {
		switch {
		case err != nil:
			s.note(g, "the segment that the server made is not shared: its swaps have no snapshots", err)
		case s.serving != g || s.state != Serving && s.state != Probation:
			_ = made.segment.Close() // it is looked for again when the next one is ready
		default:
			s.memory = made
			s.note(g, fmt.Sprintf("the server made %s, %d bytes", made.Spec.Identity(), made.segment.Size()), nil)
			s.lendTo(g)
			s.discard(m)
		}
	})
	if !told && err == nil {
		_ = made.segment.Close() // the service is over
	}
}

// lookEarly is told when g was launched: the section that a server of Windows
// makes is opened as soon as it is there, and held from then on, so that it
// outlives a server that ends before it was ready.
func (s *Service) lookEarly(g *generation) {
	c := s.config.Memory
	if c == nil || !c.Made || c.Spec.Kind != shmbridge.Section || s.memory != nil {
		return
	}
	last := s.last
	s.spawn(func() {
		made, err := s.openSegment(last, g, shmbridge.Inherited{})
		for errors.Is(err, fs.ErrNotExist) && g.run.Err() == nil {
			pause(g.run)
			made, err = s.openSegment(last, g, shmbridge.Inherited{})
		}
		if errors.Is(err, fs.ErrNotExist) {
			return // a server without one
		}
		told := s.tell(func() {
			switch {
			case err != nil:
				s.note(g, "the segment that the server made cannot be kept", err)
			case s.memory != nil:
				_ = made.segment.Close() // an earlier look was successful late
			default:
				s.memory = made
				s.note(g, fmt.Sprintf("%s is kept, %d bytes", made.Spec.Identity(), made.segment.Size()), nil)
				s.lendTo(g)
			}
		})
		if !told && err == nil {
			_ = made.segment.Close() // the service is over
		}
	})
}

// lendTo tells the page that g, which runs already, writes the segment.
func (s *Service) lendTo(g *generation) {
	if m := s.memory; m != nil {
		if err := m.segment.Lease(g.number, g.pid()); err != nil {
			s.note(g, "the bridge page could not be told that it writes the segment", err)
		}
	}
}

// discard closes a segment that another one has taken the place of, once
// nobody copies it.
func (s *Service) discard(m *memory) {
	if m == nil {
		return
	}
	s.spawn(func() {
		m.turn <- struct{}{} // a copy ends
		_ = m.segment.Close()
	})
}
