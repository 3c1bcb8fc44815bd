package notify

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// ErrStoreFull is what is answered to one descriptor too many.
var ErrStoreFull = errors.New("notify: the store is full")

// defaultName is the name of what was parked without one.
const defaultName = "stored"

// StoreConfig says what NewStore makes.
type StoreConfig struct {
	Max  int         // how many descriptors are parked at most; 0: 1024
	Gone func(Entry) // told of one that was dropped because its other end is gone; its File is nil. nil: nobody is
}

// Entry is one parked descriptor.
type Entry struct {
	Name string
	Poll bool // it is dropped when its other end is gone

	Dev, Ino uint64 // what it is: of a socket, a memfd or a file, they are nobody else's while it is open

	File *os.File // set where it says so
}

// Store is the file descriptor store of a service, as FDSTORE=1 of
// sd_notify(3) defines it. It is safe for concurrent use. What is in it stays
// open, and its connections stay up, whatever happens to the server.
type Store struct {
	max     int
	gone    func(Entry)
	hangups *hangups

	mu      sync.Mutex
	entries []entry // in the order in which they came
	last    int32
	closed  bool
}

type entry struct {
	Entry
	id      int32
	watched bool
}

// NewStore makes an empty store.
func NewStore(c StoreConfig) (*Store, error) {
	s := &Store{max: c.Max, gone: c.Gone}
	if s.max <= 0 {
		s.max = 1024
	}
	var err error
	if s.hangups, err = newHangups(s.hungUp); err != nil {
		return nil, fmt.Errorf("notify: make the store: %w", err)
	}
	return s, nil
}

// Handle does what a message asks of the store, with its files taken if it
// asks to park them. Other messages are none of its business.
func (s *Store) Handle(m Message) error {
	if m.FDStoreRemove {
		if m.FDName == "" {
			return errors.New("notify: FDSTOREREMOVE=1 needs a valid FDNAME=")
		}
		s.Remove(m.FDName)
	}
	if m.FDStore {
		return s.Add(m.FDName, m.FDPoll, m.Take()...)
	}
	return nil
}

// Add parks files under name ("" is "stored"). It takes them, also when it
// fails. One that is parked already is closed: the same description twice
// would only keep its connection open longer. With poll, one whose other end
// is gone is dropped by itself.
func (s *Store) Add(name string, poll bool, files ...*os.File) error {
	if name == "" {
		name = defaultName
	}
	var errs []error
	for _, f := range files {
		if err := s.add(name, poll, f); err != nil {
			_ = f.Close() // never written to
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Store) add(name string, poll bool, f *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("notify: park %s: %w", name, os.ErrClosed)
	}
	if !ValidName(name) {
		return fmt.Errorf("notify: park: %q is no name for a descriptor", name)
	}
	for i := range s.entries {
		if sameDescription(s.entries[i].File, f) {
			_ = f.Close() // the other one stays
			return nil
		}
	}
	if len(s.entries) >= s.max {
		return fmt.Errorf("%w: %d are parked already", ErrStoreFull, len(s.entries))
	}
	s.last++
	e := entry{Entry: Entry{Name: name, Poll: poll, File: f}, id: s.last}
	var err error
	if e.Dev, e.Ino, err = Inode(f); err != nil {
		return fmt.Errorf("notify: park %s: %w", name, err)
	}
	if poll {
		watched, err := s.hangups.add(f, e.id)
		if err != nil {
			return fmt.Errorf("notify: park %s: %w", name, err)
		}
		e.watched = watched
	}
	s.entries = append(s.entries, e)
	return nil
}

// List tells what is parked, oldest first. File is nil.
func (s *Store) List() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Entry, 0, len(s.entries))
	for _, e := range s.entries {
		e.File = nil
		out = append(out, e.Entry)
	}
	return out
}

// Duplicate is List with a duplicate of each in File, for a successor: the
// caller closes them. What is parked stays parked until it is removed.
func (s *Store) Duplicate() ([]Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Entry, 0, len(s.entries))
	for _, e := range s.entries {
		f, err := duplicate(e.File)
		if err != nil {
			for _, d := range out {
				_ = d.File.Close() // never written to
			}
			return nil, fmt.Errorf("notify: duplicate %s: %w", e.Name, err)
		}
		e.File = f
		out = append(out, e.Entry)
	}
	return out, nil
}

// Take moves what is parked under name out of the store: File is the caller's
// to close.
func (s *Store) Take(name string) []Entry {
	return s.cut(func(e entry) bool { return e.Name == name })
}

// Remove closes what is parked under name and tells how many that were.
func (s *Store) Remove(name string) int {
	return drop(s.Take(name))
}

// Close closes everything. Nothing can be parked afterwards.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	drop(s.cut(func(entry) bool { return true }))
	if again {
		return nil
	}
	return s.hangups.close()
}

// hungUp is told that the other end of an entry is gone.
func (s *Store) hungUp(id int32) {
	for _, e := range s.cut(func(e entry) bool { return e.id == id }) {
		drop([]Entry{e})
		if e.File = nil; s.gone != nil {
			s.gone(e)
		}
	}
}

// cut moves the entries that are meant out of the store.
func (s *Store) cut(meant func(entry) bool) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Entry
	kept := s.entries[:0]
	for _, e := range s.entries {
		if !meant(e) {
			kept = append(kept, e)
			continue
		}
		if e.watched {
			// Before it is closed: a registration lives as long as any
			// duplicate of the descriptor does, in any process (epoll(7)).
			s.hangups.remove(e.File)
		}
		out = append(out, e.Entry)
	}
	clear(s.entries[len(kept):])
	s.entries = kept
	return out
}

func drop(entries []Entry) int {
	for _, e := range entries {
		_ = e.File.Close() // never written to
	}
	return len(entries)
}
