package shmbridge

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Page is a mapped bridge page: the words that the upgrader and the guests tell one another (docs/bridge.md). Its
// methods are safe for concurrent use by any number of processes, and count generations as the page does: from 1 in the
// life of the page, where a service counts from 1 in the life of its upgrader ([Page.Base] is the difference).
//
// A page that a peer has made impossible, or has cut off, is an error that matches ErrPage, never a panic.
type Page struct {
	bytes []byte
	flush func() error // writes the page to its disk, if it has one
}

// Status is the page's account of the segment at one moment.
type Status struct {
	Generation uint32 // of the last lease; 0: there was none
	State      State
	Pid        int       // of the writer, in its own pid name space; 0: not told
	Found      State     // what the generation found when it got the lease; 0 for generation 0
	Managed    bool      // it has taken the lease by itself
	Saves      uint64    // by this generation
	Total      uint64    // by all
	SavedAt    time.Time // of its last save; zero: none
	Checksum   uint64    // of its last save, the guest's own; 0: none
	Schema     uint64    // that the bytes are in; 0: not told
	Restoring  bool      // a restore was begun and not finished
	Snapshot   uint64    // the number of the snapshot that was restored last, or is being restored; 0: none
}

// NewPage makes a Page of the first PageSize bytes of a shared mapping, which it keeps using. Errors match ErrPage,
// ErrVersion and ErrUnsupported.
func NewPage(mapped []byte) (*Page, error) {
	p := &Page{bytes: mapped, flush: func() error { return nil }}
	return p, p.guard(func() error { return p.check() })
}

func (p *Page) check() error {
	switch {
	case binary.NativeEndian.Uint16([]byte{1, 0}) != 1:
		return fmt.Errorf("shmbridge: big-endian processor: %w", ErrUnsupported)
	case len(p.bytes) < PageSize || !p.aligned():
		return fmt.Errorf("shmbridge: %w: not %d aligned bytes", ErrPage, PageSize)
	case p.load(atMagic) != pageMagic:
		return fmt.Errorf("shmbridge: %w: no magic", ErrPage)
	case p.load(atVersion) != LayoutVersion:
		return fmt.Errorf("shmbridge: bridge page: %w: %d", ErrVersion, p.load(atVersion))
	case p.load(atSize) == 0 || p.load(atSize) > maxSize:
		return fmt.Errorf("shmbridge: %w: impossible segment size %d", ErrPage, p.load(atSize))
	}
	_, err := p.status()
	return err
}

// format returns the bytes of a new page.
func format(size int64, state State, boot [16]byte) []byte {
	b := make([]byte, PageSize)
	put := func(offset int, v uint64) { binary.LittleEndian.PutUint64(b[offset:], v) }
	put(atMagic, pageMagic)
	put(atVersion, LayoutVersion)
	put(atSize, uint64(size))
	put(atWord, word(0, state))
	copy(b[atBoot:], boot[:])
	return b
}

// SegmentSize returns the size of the segment in bytes.
func (p *Page) SegmentSize() (int64, error) {
	var size uint64
	err := p.guard(func() error { size = p.load(atSize); return nil })
	if err == nil && (size == 0 || size > maxSize) {
		err = fmt.Errorf("shmbridge: %w: impossible segment size %d", ErrPage, size)
	}
	return int64(size), err
}

// Base is what a generation's number on the page exceeds its number in UPGRADER_GENERATION by.
func (p *Page) Base() (uint32, error) {
	var base uint64
	err := p.guard(func() error { base = p.load(atBase); return nil })
	if err == nil && base > 1<<32-1 {
		err = fmt.Errorf("shmbridge: %w: impossible base %d", ErrPage, base)
	}
	return uint32(base), err
}

// Status reads the page.
func (p *Page) Status() (Status, error) {
	var s Status
	err := p.guard(func() (err error) { s, err = p.status(); return err })
	return s, err
}

// statusTries bounds how often a status is read again because the word moved meanwhile.
const statusTries = 1000

func (p *Page) status() (Status, error) {
	for range statusTries {
		w := p.load(atWord)
		s, err := p.statusOf(w)
		if err != nil || p.load(atWord) == w {
			return s, err
		}
	}
	return Status{}, fmt.Errorf("shmbridge: %w: the word does not rest", ErrPage)
}

func (p *Page) statusOf(w uint64) (Status, error) {
	g, state := unword(w)
	if !state.possible() || g == 0 && state == Live {
		return Status{}, fmt.Errorf("shmbridge: %w: impossible %v of generation %d", ErrPage, state, g)
	}
	s := Status{
		Generation: g, State: state, Total: p.load(atSaves),
		Restoring: p.load(atBegun) != p.load(atDone), Snapshot: p.load(atRestoring),
	}
	at := record(g)
	if p.load(at+inGeneration) != uint64(g) {
		if g != 0 {
			return Status{}, fmt.Errorf("shmbridge: %w: no record of generation %d", ErrPage, g)
		}
		return s, nil
	}
	s.Pid = int(uint32(p.load(at+inPid)) & 0x7fffffff)
	s.Found = State(uint32(p.load(at + inFound)))
	if g != 0 && (!s.Found.possible() || s.Found == Live) {
		return Status{}, fmt.Errorf("shmbridge: %w: generation %d found an impossible %v", ErrPage, g, s.Found)
	}
	s.Managed = p.load(at+inTaken)&takenYes != 0
	s.Saves = p.load(at + inSaves)
	if ns := p.load(at + inTime); ns != 0 {
		s.SavedAt = time.Unix(0, int64(ns))
	}
	s.Checksum, s.Schema = p.load(at+inChecksum), p.load(at+inSchema)
	return s, nil
}
