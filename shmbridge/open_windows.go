package shmbridge

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// system is how the kernel is reached, where there is a choice.
type system struct{}

// open opens the section, or creates it where a size is given: of one that we created a server which was told to look
// would take the zeros for data. It has its page in a section beside it, by the name with .bridge, which a file PATH.bridge
// backs where a file PATH backs the segment. s is closed by its caller when open fails.
func (s *Segment) open(c Config) error {
	_ = c.system // there is no choice here
	if s.spec.Kind != Section {
		return fmt.Errorf("%s segments on Windows: %w: want section:NAME", s.spec.Kind, ErrUnsupported)
	}
	if err := s.held.claimName(s.spec.Name); err != nil {
		return err
	}
	var existed bool
	var err error
	switch {
	case s.spec.File != "":
		err = s.openFile()
	case s.spec.Size == 0:
		existed = true
		s.held.section, err = openSection(s.spec.Name)
	default:
		s.held.section, existed, err = createSection(s.spec.Name, s.spec.Size, nil)
		s.created = !existed
	}
	if err != nil {
		return err
	}
	if s.data, err = view(s.held.section, s.size, s.file); err != nil {
		return err
	}
	s.size = int64(len(s.data.bytes))
	if whole, err := wholeSize(s.held.section); err != nil {
		return err
	} else if whole-s.size >= int64(os.Getpagesize()) {
		return fmt.Errorf("section %s has %d bytes, not %d: %w", s.spec.Name, whole, s.size, ErrSize)
	}
	if err := s.openBridge(); err != nil {
		return err
	}
	return s.words.guard(func() (err error) {
		s.base, err = s.words.adopt([16]byte{}, existed, uint32(c.Generation), os.Getpid())
		return err
	})
}

// wholeSize is how large a section is, in whole pages of the machine.
func wholeSize(h windows.Handle) (int64, error) {
	m, err := view(h, 0, nil)
	if err != nil {
		return 0, err
	}
	return int64(len(m.bytes)), m.unmap()
}

// openFile creates the section on its file, which is made where it is not there.
func (s *Segment) openFile() error {
	var err error
	if s.file, err = os.OpenFile(s.spec.File, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	have := info.Size()
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", s.spec.File)
	case have == 0 && s.size == 0:
		return fmt.Errorf("%s is empty: %w: add size=SIZE", s.spec.File, ErrSize)
	case have != 0 && s.size != 0 && have != s.size:
		return fmt.Errorf("%s has %d bytes, not %d: %w", s.spec.File, have, s.size, ErrSize)
	case have > maxSize:
		return fmt.Errorf("%s has %d bytes: %w", s.spec.File, have, ErrTooLarge)
	case have == 0:
		s.created = true
		if err := allocate(s.file, s.size); err != nil {
			return err
		}
	default:
		s.size = have
	}
	s.held.section, _, err = createSection(s.spec.Name, s.size, s.file)
	return err
}

// openBridge opens the bridge page, or makes it. The page of a segment that is new, or has another size, is replaced: it
// was of an earlier one by that name.
func (s *Segment) openBridge() (err error) {
	state := Unsaved // of bytes that nobody vouches for
	if s.created {
		state = Fresh
	}
	fits := false
	if s.spec.File != "" {
		if s.held.file, err = os.OpenFile(s.spec.File+sidecarSuffix, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
		info, err := s.held.file.Stat()
		if err != nil {
			return err
		}
		if fits = info.Size() == PageSize; !fits && info.Size() != 0 {
			return fmt.Errorf("%s: %w: it has %d bytes (remove it if no server needs it)", s.held.file.Name(), ErrPage, info.Size())
		}
	}
	var existed bool
	if s.held.page, existed, err = createSection(s.spec.Name+sidecarSuffix, PageSize, s.held.file); err != nil {
		return err
	}
	if s.page, err = view(s.held.page, PageSize, s.held.file); err != nil {
		return err
	}
	content := format(s.size, state, [16]byte{})
	if fits = (fits || existed) && !s.created && binary.LittleEndian.Uint64(s.page.bytes) != 0; fits {
		page, err := NewPage(s.page.bytes)
		var size int64
		if err == nil {
			size, err = page.SegmentSize()
		}
		if err != nil {
			return fmt.Errorf("%s%s: %w (remove it if no server needs it)", s.spec, sidecarSuffix, err)
		}
		fits = size == s.size
	}
	if !fits {
		copy(s.page.bytes[8:], content[8:])
		binary.LittleEndian.PutUint64(s.page.bytes, pageMagic) // last: what was cut short is no page
	}
	if s.words, err = NewPage(s.page.bytes); err != nil {
		return err
	}
	s.words.flush = s.page.flush
	return s.words.flush()
}

// MappedBy tells how many handles other processes have of the section; which ones Windows does not tell. One that has
// closed its handle and kept its view is not found.
func (s *Segment) MappedBy() (Mappers, error) {
	n, err := handles(s.held.section)
	if err != nil {
		return Mappers{}, fmt.Errorf("shmbridge: who has %s: %w", s.spec.Identity(), err)
	}
	return Mappers{Hidden: max(0, n-1)}, nil
}

// Check has nothing to find: as long as we have a handle, the name means the section of that handle.
func (s *Segment) Check() error { return nil }

// Remove closes the segment and removes the files that back it and its page, once nobody else has them.
func (s *Segment) Remove() error {
	err := s.Close()
	if s.spec.File != "" {
		for _, path := range []string{s.spec.File, s.spec.File + sidecarSuffix} {
			if e := os.Remove(path); !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}

// sync brings the segment to its disk, if it has one, with what others wrote into their views.
func (s *Segment) sync() error { return s.flush() }

// sync brings what was written into the mapping of f to the disk.
func (m *mapping) sync(*os.File) error { return m.flush() }

// draftSpec names the copy that a migration works on: no other process can guess it.
func draftSpec(size int64) Spec {
	return Spec{Kind: Section, Name: "upgrader-draft-" + rand.Text(), Size: size}
}

// allocate gives a file its size, at least.
func allocate(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	err = f.Truncate(size)
	if errors.Is(err, windows.ERROR_DISK_FULL) {
		return fmt.Errorf("allocate %d bytes of %s: %w (%w)", size, f.Name(), ErrNoSpace, err)
	}
	return err
}

func mapDescriptor(int, int64) (*mapping, error) {
	return nil, fmt.Errorf("a descriptor on Windows: %w", ErrUnsupported)
}

func mapSysV(int, int64) (*mapping, error) {
	return nil, fmt.Errorf("a System V segment on Windows: %w", ErrUnsupported)
}

func populate([]byte)      {}
func syncDir(string) error { return nil } // a name is as durable as the system makes it
