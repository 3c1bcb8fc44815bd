//go:build !linux && !windows

package shmbridge

import (
	"fmt"
	"os"
	"runtime"
)

// system is how the kernel is reached, where there is a choice.
type system struct{}

// held is nothing here.
type held struct{}

func (held) release() error { return nil }

func unsupported(what string) error {
	return fmt.Errorf("shmbridge: %s on %s: %w", what, runtime.GOOS, ErrUnsupported)
}

func (s *Segment) open(c Config) error {
	_ = c.system // there is no choice here
	s.created, s.rebooted, s.path = false, false, ""
	return unsupported("segments")
}

func mapDescriptor(int, int64) (*mapping, error) { return nil, unsupported("map a descriptor") }
func mapSysV(int, int64) (*mapping, error)       { return nil, unsupported("map a System V segment") }
func allocate(*os.File, int64) error             { return unsupported("allocate a file") }
func mapSection(string, int64) (*mapping, error) { return nil, unsupported("map a section") }
func populate([]byte)                            {}
func (s *Segment) sync() error                   { return nil }
func draftSpec(int64) Spec                       { return Spec{} } // Open refuses it
func (m *mapping) sync(*os.File) error           { return m.flush() }
func syncDir(string) error                       { return nil } // a name is as durable as the system makes it

// MappedBy finds the processes that map the segment. It exists on Linux only.
func (s *Segment) MappedBy() (Mappers, error) {
	return Mappers{}, unsupported("find who maps a segment")
}

// Check tells whether the segment is still what its name says. It exists on Linux only.
func (s *Segment) Check() error { return unsupported("segments") }

// Remove removes the segment, and its bridge page. It exists on Linux only.
func (s *Segment) Remove() error { return unsupported("segments") }
