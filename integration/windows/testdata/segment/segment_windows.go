// Package segment is the shared memory of the test's servers, as segment.h has
// it: a counter that one writer at a time increments.
package segment

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	size  = 4096
	magic = 0x30304d4853474e55
)

const (
	wordMagic = iota
	wordCounter
	wordSaved
	wordSavedBy
	wordSavedCounter
	wordForeign
	words
)

// Segment is a mapping of it.
type Segment struct {
	words *[words]uint64
	last  uint64
}

// ErrLost says that there is no such memory, or nothing in it.
var ErrLost = errors.New("the memory is lost")

// Open opens what somebody else created, and creates it if asked to.
func Open(name string, create bool) (*Segment, error) {
	utf16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFileMapping(windows.InvalidHandle, nil, windows.PAGE_READWRITE, 0, size, utf16)
	if h == 0 {
		return nil, fmt.Errorf("CreateFileMapping: %w", err)
	}
	if !create && !errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		_ = windows.CloseHandle(h)
		return nil, ErrLost
	}
	address, err := windows.MapViewOfFile(h, windows.FILE_MAP_READ|windows.FILE_MAP_WRITE, 0, 0, size)
	if err != nil {
		return nil, fmt.Errorf("MapViewOfFile: %w", err)
	}
	s := &Segment{words: (*[words]uint64)(*(*unsafe.Pointer)(unsafe.Pointer(&address)))}
	if create {
		s.words[wordMagic] = magic
	}
	return s, nil
}

// On is the one that lies in these bytes.
func On(b []byte) (*Segment, error) {
	if len(b) < words*8 {
		return nil, ErrLost
	}
	s := &Segment{words: (*[words]uint64)(unsafe.Pointer(&b[0]))}
	s.words[wordMagic] = magic
	return s, nil
}

// Scribble makes it something that nobody has written.
func (s *Segment) Scribble() {
	for i := range s.words {
		s.words[i] = 0xdeadbeef
	}
}

// SavedBy says whether that process has saved.
func (s *Segment) SavedBy(pid int) error {
	switch {
	case s.words[wordMagic] != magic:
		return ErrLost
	case s.words[wordSaved] != 1:
		return errors.New("nobody has saved")
	case s.words[wordSavedBy] != uint64(pid):
		return fmt.Errorf("process %d has saved", s.words[wordSavedBy])
	case s.words[wordSavedCounter] != s.words[wordCounter]:
		return errors.New("it was written to after it was saved")
	}
	return nil
}

// Begin is before the first Write.
func (s *Segment) Begin() {
	s.words[wordSaved] = 0
	s.last = s.words[wordCounter]
}

// Write increments the counter, and counts an increment that was not ours.
func (s *Segment) Write() {
	if s.words[wordCounter] != s.last {
		s.words[wordForeign]++
	}
	s.last = s.words[wordCounter] + 1
	s.words[wordCounter] = s.last
}

// Save sets the marker.
func (s *Segment) Save(pid int) {
	s.words[wordSavedCounter] = s.words[wordCounter]
	s.words[wordSavedBy] = uint64(pid)
	s.words[wordSaved] = 1
}

// Counter is what was counted, Foreign how often a foreign increment was found.
func (s *Segment) Counter() uint64 { return s.words[wordCounter] }

// Foreign is how often a foreign increment was found.
func (s *Segment) Foreign() uint64 { return s.words[wordForeign] }
