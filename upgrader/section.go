package upgrader

import (
	"errors"
	"fmt"
)

// Section is a named section of Windows that generations share and that the
// upgrader keeps: it lives as long as somebody has a handle of it.
type Section struct {
	Name string
	Size int64  // bytes, of one that we create; 0: the server creates it, and it is opened then
	File string // what backs one that we create; "": the page file
	Dev  bool   // swaps of a section that the page file backs are allowed
}

// check refuses what cannot be.
func (d *Section) check(c *Config) error {
	switch {
	case d == nil:
		return nil
	case !hasSections:
		return usage("sections are Windows'")
	case d.Name == "":
		return usage("a section needs a name")
	case c.Memory != nil:
		return usage("a section and another segment cannot both be shared")
	case c.Strategy != Exclusive:
		return usage("two generations must not write one section: it goes with --strategy exclusive only")
	case d.File != "" && d.Size == 0:
		return usage("a section that a file backs is created by us: it needs a size")
	}
	return nil
}

// errPageFile says why a section is not swapped.
var errPageFile = errors.New("the page file backs it, so it is lost with the last process that has it, us included: back it by a file (--shm section:NAME,size=SIZE,file=PATH), or allow it with --dev")

// swappable tells why the section must not be swapped, if there is one.
func (s *Service) swappable() error {
	if d := s.config.Section; d != nil && d.File == "" && !d.Dev {
		return fmt.Errorf("upgrader: swap section %s: %w", d.Name, errPageFile)
	}
	return nil
}

// keepSection is told when g was launched: where the server creates the
// section it is opened as soon as it is there, and kept from then on.
func (s *Service) keepSection(g *generation) {
	d := s.config.Section
	if d == nil || s.section.held() {
		return
	}
	s.spawn(func() {
		var found section
		for !found.held() {
			var err error
			if found, err = findSection(d.Name); err != nil {
				s.tell(func() { s.note(g, "the section cannot be kept", err) })
				return
			}
			if !found.held() {
				if g.run.Err() != nil {
					return
				}
				pause(g.run)
			}
		}
		if !s.tell(func() {
			if s.section.held() {
				found.release()
				return
			}
			s.section = found
			s.note(g, "section "+d.Name+" is kept", nil)
		}) {
			found.release()
		}
	})
}
