package shmbridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

// Config says how a segment is opened. Its zero value is of use.
type Config struct {
	Uid, Gid   *uint32     // the user and group that the generations run as; nil: the upgrader's own
	Mode       fs.FileMode // of a segment that is created; 0: 0600
	Generation int         // the number that the engine gave last; 0: it counts from 1 anew
	Inherited  Inherited   // zero: the segment is opened by its specification

	system system // zero: the machine's
}

// Inherited are a segment's descriptors out of another process: of the upgrader that this one replaces ([Segment.Hold]),
// or of an orphaned generation. [Open] takes them.
type Inherited struct {
	Segment *os.File // nil for System V
	Bridge  *os.File // nil: nothing is inherited
	Lock    *os.File // nil: the lock is taken anew
}

// Segment is shared memory that the upgrader holds, with its bridge page. It is safe for concurrent use, except that
// Close and Remove come last. Its methods count generations as UPGRADER_GENERATION does.
type Segment struct {
	spec     Spec
	size     int64
	created  bool
	rebooted bool
	base     uint32

	file   *os.File // nil for System V
	id     int      // of System V
	path   string   // of a name that can be opened; empty: none
	bridge *os.File // what generations are handed: its description is not locked
	lock   *os.File // the same file, locked, ours alone
	page   *mapping
	words  *Page
	held   held // what else a system holds it by, and the page beside it

	mu   sync.Mutex
	data *mapping // made when it is first needed, except of System V
}

// Open creates or adopts the segment that spec names, checks that all of it is there (nobody will get SIGBUS for lack of
// space), and locks its bridge page. Errors match ErrLocked, ErrSize, ErrOwner, ErrRemoved, ErrNoSpace, ErrPage,
// ErrUnsupported, fs.ErrNotExist, fs.ErrPermission. Nothing that existed before is removed or resized.
func Open(spec Spec, c Config) (*Segment, error) {
	s := &Segment{spec: spec, size: spec.Size}
	if err := s.open(c); err != nil {
		_ = s.Close() // the error that is told is why
		return nil, fmt.Errorf("shmbridge: open %s: %w", spec, err)
	}
	return s, nil
}

// Spec is what the segment was opened by, with the size that it has.
func (s *Segment) Spec() Spec {
	spec := s.spec
	spec.Size = s.size
	return spec
}

// Size is the segment's size in bytes.
func (s *Segment) Size() int64 { return s.size }

// Created tells that Open made the segment: it is all zeros.
func (s *Segment) Created() bool { return s.created }

// Rebooted tells that the machine was started again since the segment was held last: a live one was left unsaved.
func (s *Segment) Rebooted() bool { return s.rebooted }

// Page is the bridge page, for whoever needs its words. It counts generations by Base more.
func (s *Segment) Page() *Page { return s.words }

// Files lends what each generation is handed: the bridge page, and the segment where it is a descriptor; nothing where
// both are found by their names.
func (s *Segment) Files() []*os.File {
	switch {
	case s.bridge == nil:
		return nil
	case s.file == nil:
		return []*os.File{s.bridge}
	}
	return []*os.File{s.bridge, s.file}
}

// Hold lends what the upgrader that replaces this one needs to go on (Config.Inherited).
func (s *Segment) Hold() Inherited {
	return Inherited{Segment: s.file, Bridge: s.bridge, Lock: s.lock}
}

// Environ returns the variables, KEY=VALUE, by which a generation finds the segment, when Files are its descriptors of
// these numbers, in order. The lease is granted before, so that UPGRADER_SHM_STATE is what that generation found.
func (s *Segment) Environ(numbers ...int) ([]string, error) {
	if len(numbers) != len(s.Files()) {
		return nil, fmt.Errorf("shmbridge: environment of %s: %d numbers of %d descriptors", s.spec, len(numbers), len(s.Files()))
	}
	now, err := s.words.Status()
	if err != nil {
		return nil, err
	}
	state := now.State
	if state == Live {
		state = now.Found
	}
	if s.spec.Kind == Section {
		return []string{
			EnvPath + "=" + s.spec.Identity(),
			EnvSize + "=" + strconv.FormatInt(s.size, 10),
			EnvState + "=" + state.String(),
			EnvBridgePath + "=" + s.spec.Identity() + sidecarSuffix,
		}, nil
	}
	fd, path := "", fmt.Sprintf("%s,id=%d", s.spec.Identity(), s.id)
	if s.file != nil {
		fd, path = strconv.Itoa(numbers[1]), s.path
		if path == "" {
			path = "/proc/self/fd/" + fd
		}
	}
	return []string{
		EnvFd + "=" + fd,
		EnvPath + "=" + path,
		EnvSize + "=" + strconv.FormatInt(s.size, 10),
		EnvState + "=" + state.String(),
		EnvBridge + "=" + strconv.Itoa(numbers[0]),
	}, nil
}

// Lease grants the lease to a generation, whose leader is pid (0: not known yet; grant again when it is). The leases of
// all older ones are void from now on. Errors match ErrVoid and ErrRestoring.
func (s *Segment) Lease(generation, pid int) error {
	g, err := s.onPage(generation)
	if err != nil {
		return err
	}
	return s.words.guard(func() error { return s.words.grant(g, pid) })
}

// Ended tells the page how a generation ended: all its processes are gone. It returns the segment's state then. A
// generation that had taken the lease and not saved leaves it unsaved; an unmanaged one leaves it saved by ExitClean.
// When a later generation has the lease, nothing changes.
func (s *Segment) Ended(generation int, how Exit) (State, error) {
	g, err := s.onPage(generation)
	if err != nil {
		return 0, err
	}
	now, err := s.words.Status()
	if err == nil && now.Generation == g && !now.Managed && how == ExitClean {
		err = s.sync() // what an unmanaged writer left is on the disk before the page says so
	}
	if err != nil {
		return 0, fmt.Errorf("shmbridge: generation %d ended: %w", generation, err)
	}
	var state State
	err = s.words.guard(func() (err error) { state, err = s.words.end(g, how); return err })
	return state, err
}

// State reads the page. Generation is 0 when the last lease was not of this count.
func (s *Segment) State() (Status, error) {
	now, err := s.words.Status()
	now.Generation -= min(s.base, now.Generation)
	return now, err
}

func (s *Segment) onPage(generation int) (uint32, error) {
	if generation < 1 || int64(generation) > int64(^uint32(0)-s.base) {
		return 0, fmt.Errorf("shmbridge: impossible generation %d", generation)
	}
	return s.base + uint32(generation), nil
}

// Accepts tells whether a successor that declares these schema numbers (Schemas) can take the segment as it is, by an
// error that matches ErrSchema.
func (s *Segment) Accepts(declared []uint64) error {
	now, err := s.words.Status()
	if err != nil {
		return err
	}
	return Compatible(now.Schema, declared)
}

// Snapshot takes a snapshot in one go. To do most of it while the writer still runs, use Store.Begin.
func (s *Segment) Snapshot(ctx context.Context, store *Store) (Snapshot, error) {
	t, err := store.Begin(s)
	if err != nil {
		return Snapshot{}, err
	}
	defer t.Abort()
	if err := t.Second(ctx); err != nil {
		return Snapshot{}, err
	}
	return t.Commit()
}

// memory returns the segment mapped, for as long as the segment is open.
func (s *Segment) memory() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil {
		m, err := mapFile(s.file, s.size)
		if err != nil {
			return nil, fmt.Errorf("shmbridge: map %s: %w", s.spec, err)
		}
		s.data = m
	}
	return s.data.bytes, nil
}

// Look lends the segment's bytes, as they are, to look at. A fault in them is an error that matches ErrSize.
func (s *Segment) Look(look func(bytes []byte) error) error {
	b, err := s.memory()
	if err != nil {
		return err
	}
	return guard(ErrSize, func() error { return look(b) })
}

// flush writes the segment to its disk, if it has one.
func (s *Segment) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil {
		return nil
	}
	return s.data.flush()
}

// Close releases the segment; it and its page stay for whoever else holds them, and, but for a memfd, for the next Open.
func (s *Segment) Close() error {
	var errs []error
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range []**mapping{&s.data, &s.page} {
		if *m != nil {
			errs = append(errs, (*m).unmap())
			*m = nil
		}
	}
	for _, f := range []**os.File{&s.file, &s.bridge, &s.lock} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	return errors.Join(append(errs, s.held.release())...)
}

// Mappers are the processes that map a segment, the caller not among them.
type Mappers struct {
	Pids   []int // ascending
	Hidden int   // System V: more attachments than Pids can have, of processes that are not to be seen
	Unseen int   // processes whose mappings may not be read (of other users)
}

func (m Mappers) err() error {
	switch {
	case len(m.Pids) > 0:
		return fmt.Errorf("shmbridge: %w by %v", ErrMapped, m.Pids)
	case m.Hidden > 0:
		return fmt.Errorf("shmbridge: %w by %d processes that are not to be seen", ErrMapped, m.Hidden)
	}
	return nil
}
