package upgrader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/launch"
)

// OnUnsaved says what happens with a segment whose last writer ended without
// saving it.
type OnUnsaved string

// The policies.
const (
	UnsavedKeep    OnUnsaved = "keep"    // the next generation gets it as it is, and is told
	UnsavedRestore OnUnsaved = "restore" // the newest snapshot that was saved is put back
	UnsavedRefuse  OnUnsaved = "refuse"  // no generation is started on it
)

// Memory is the segment that a service's generations share, and its policy.
type Memory struct {
	Spec           shmbridge.Spec
	BackupDir      string                     // of the snapshots; "": snapshots in the state dir
	BackupKeep     int                        // how many are kept; 0: 3
	BackupInterval time.Duration              // between snapshots beside those of swaps; 0: none
	OnUnsaved      OnUnsaved                  // "": keep
	Validate       string                     // a command that tells by its status whether the segment is sound; "": none
	Made           bool                       // the server makes the segment itself: it is adopted once it is there
	Inspect        func(segment []byte) error // looks at it before a predecessor is told to quit; nil: nobody does
	Dev            bool                       // swaps of a section that the page file backs are allowed
	Migrate        string                     // a command that brings a copy of the segment into the schema of a successor; "": none
}

// check fills what zero values mean and refuses what cannot be.
func (m *Memory) check(c *Config) error {
	if m == nil {
		return nil
	}
	if c.Strategy == "" {
		c.Strategy = Exclusive
	}
	switch {
	case c.Strategy != Exclusive:
		return usage("two generations must not write one segment: --shm goes with --strategy exclusive only")
	case m.BackupInterval < 0:
		return usage("backup-interval must not be negative")
	case m.BackupKeep < 0:
		return usage("backup-keep must not be negative")
	}
	if m.BackupKeep == 0 {
		m.BackupKeep = 3
	}
	if m.OnUnsaved == "" {
		m.OnUnsaved = UnsavedKeep
	}
	return nil
}

// errPageFile says why a section is not swapped.
var errPageFile = errors.New("the page file backs it, so it is lost with the last process that has it, us included: back it by a file (--shm section:NAME,size=SIZE,file=PATH), or allow it with --dev")

// swappable tells why the segment must not be swapped, if there is a reason.
func (s *Service) swappable() error {
	if m := s.config.Memory; m != nil && m.Spec.Kind == shmbridge.Section && m.Spec.File == "" && !m.Dev {
		return fmt.Errorf("upgrader: swap %s: %w", m.Spec.Identity(), errPageFile)
	}
	return nil
}

// memory is the segment while the service runs. It is nil when none is shared.
type memory struct {
	Memory
	segment *shmbridge.Segment
	store   *shmbridge.Store
	turn    chan struct{} // who has put something in takes a snapshot: one at a time
	owed    *copying      // must be put back before anything starts; the loop's
	asked   time.Time     // when the predecessor was asked to save; the loop's
}

// openMemory opens the segment for the service's life. What a generation of
// a killed upgrader holds is taken from it. One that the server makes by
// itself may come later.
func (s *Service) openMemory() error {
	c := s.config.Memory
	if c == nil {
		return nil
	}
	m, err := s.openSegment(s.last, s.serving, inheritedMemory(s.inheritance))
	switch {
	case c.Made && errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		s.memory = m
	}
	if c.BackupInterval > 0 {
		s.spawn(s.snapshotsByTheClock)
	}
	return nil
}

// openSegment opens it, and the store of its snapshots. last counts the
// generations that were started; serving is the one that may write, nil: none.
// in is what another upgrader handed over of it; zero: nothing.
func (s *Service) openSegment(last int, serving *generation, in shmbridge.Inherited) (*memory, error) {
	m := &memory{Memory: *s.config.Memory, turn: make(chan struct{}, 1)}
	options := shmbridge.Config{Generation: last, Inherited: in}
	if u := s.config.User; u != nil {
		options.Uid, options.Gid = &u.Uid, &u.Gid
	}
	var err error
	if serving != nil && in.Segment == nil && m.Spec.Kind == shmbridge.Memfd { // it has no name: only who holds it can give it
		if options.Inherited, err = inheritMemory(serving.main); err != nil {
			return nil, fmt.Errorf("upgrader: take %s over from pid %d: %w", m.Spec.Identity(), serving.pid(), err)
		}
	}
	if m.segment, err = shmbridge.Open(m.Spec, options); err != nil {
		return nil, err
	}
	if serving == nil {
		err = m.abandoned()
	}
	if m.BackupDir == "" {
		m.BackupDir = filepath.Join(s.config.StateDir, "snapshots")
	}
	if err == nil {
		m.store, err = shmbridge.OpenStore(m.BackupDir, shmbridge.StoreConfig{Keep: m.BackupKeep})
	}
	if err != nil {
		_ = m.segment.Close() // the error that is told is why
		return nil, err
	}
	return m, nil
}

// abandoned refuses a segment that somebody we do not know of still writes.
func (m *memory) abandoned() error {
	now, err := m.segment.State()
	if err != nil || now.State != shmbridge.Live && !m.Made {
		return err
	}
	who, err := m.segment.MappedBy()
	if err != nil {
		return err
	}
	if m.Made && len(who.Pids) > 0 { // by no server that we know: nobody else has a reason to
		return fmt.Errorf("upgrader: %s is %w by %s, not proved to be this server: end it first", m.Spec.Identity(), shmbridge.ErrMapped, names(who.Pids))
	}
	if m.Made && m.Spec.Kind == shmbridge.Section && who.Hidden > 0 { // Windows does not say whose they are
		return fmt.Errorf("upgrader: %s is %w by a process that is not proved to be this server: end it first", m.Spec.Identity(), shmbridge.ErrMapped)
	}
	if slices.Contains(who.Pids, now.Pid) || now.Pid == 0 && len(who.Pids) > 0 {
		return fmt.Errorf("upgrader: %s is still written, %w by %s: end it first", m.Spec.Identity(), shmbridge.ErrMapped, names(who.Pids))
	}
	return nil
}

// closeMemory releases the segment, after everything that used it.
func (s *Service) closeMemory() {
	if s.memory != nil {
		_ = s.memory.segment.Close() // the process ends; the kernel closes what is left
	}
}

// lend hands the segment to g, which gets the lease by that, or when its
// passage opens. Its descriptors lie behind the lanes, where no dialect counts them.
func (s *Service) lend(g *generation, a *armed) error {
	m, o := s.memory, &a.order
	if m == nil {
		return nil
	}
	if a.passage == nil {
		if err := m.segment.Lease(g.number, 0); err != nil {
			return err
		}
	}
	next := dialect.FirstFd
	for _, f := range o.Files {
		next = max(next, f.Number+1)
	}
	var numbers []int
	for _, f := range m.segment.Files() {
		o.Files = append(o.Files, launch.Passed{File: f, Number: next})
		numbers = append(numbers, next)
		next++
	}
	a.lends = numbers
	env, err := m.segment.Environ(numbers...)
	o.Env = append(o.Env, env...)
	return err
}

// neverRan takes the lease back from a generation that was not started.
func (s *Service) neverRan(g *generation) {
	if m := s.memory; m != nil {
		_, _ = m.segment.Ended(g.number, shmbridge.ExitNeverRan) // why it did not start is told
	}
}

// memoryEnded tells the page that no process of g is left. quit says that it
// ended by itself when it was asked to.
func (s *Service) memoryEnded(m *memory, g *generation, quit bool) {
	if m == nil {
		return
	}
	g.passage.close()
	how := shmbridge.ExitCrash
	var status *launch.Status
	_ = s.ask(s.run, func() { status = g.status })                  // at the end of the service none is known
	if status != nil && status.Success() || status == nil && quit { // of a daemon no status is known
		how = shmbridge.ExitClean
	}
	s.memoryLeft(m, g, how)
}

// memoryLeft tells the page that g does not write any more, and how it came to
// that.
func (s *Service) memoryLeft(m *memory, g *generation, how shmbridge.Exit) {
	if m == nil {
		return
	}
	state, err := m.segment.Ended(g.number, how)
	s.tell(func() {
		switch {
		case err != nil:
			s.note(g, "the bridge page could not be told of its end", err)
		case s.swap != nil && s.swap.from == g && g.phase == phaseLeaving:
			s.observe(Event{What: EventConfirm, Generation: g.number, Pid: g.pid(), Message: "the segment is " + state.String(), Took: time.Since(m.asked), Warning: state == shmbridge.Unsaved})
		case state == shmbridge.Unsaved:
			s.note(g, "it left the segment unsaved", nil)
		}
	})
}

// saving is told when g was asked to save and quit.
func (s *Service) saving(g *generation) {
	if s.memory == nil {
		return
	}
	s.memory.asked = time.Now()
	s.observe(Event{What: EventSave, Generation: g.number, Pid: g.pid(), Message: "asked to save and quit"})
}

// taken is told when g became ready on the segment.
func (s *Service) taken(g *generation) {
	m := s.memory
	if c := s.config.Memory; c != nil && c.Made && c.Spec.Kind != shmbridge.Section { // a section is looked for already, and stays the same
		last := s.last
		s.spawn(func() { s.lookForMemory(g, m, last) })
	}
	if m == nil {
		return
	}
	e := Event{What: EventRestore, Generation: g.number, Pid: g.pid(), Took: g.ready.Sub(g.started)}
	if now, err := m.segment.State(); err == nil {
		e.Message = "serves on the segment, which it found " + now.Found.String()
	}
	s.observe(e)
}

// segmentStatus is what the status tells of the segment.
func (s *Service) segmentStatus() *control.Segment {
	m := s.memory
	if m == nil {
		return nil
	}
	c := &control.Segment{Name: m.segment.Spec().Identity(), Size: m.segment.Size(), BackupDir: m.BackupDir}
	c.SecondPhase, c.SecondPhaseWhy = s.secondPhase()
	now, err := m.segment.State()
	if err != nil {
		c.Error = err.Error()
		return c
	}
	c.State, c.Generation, c.Saves, c.Schema, c.Managed = now.State.String(), int(now.Generation), now.Total, now.Schema, now.Managed
	return c
}

// putBack restores the segment for g, once nobody but us maps it.
func (s *Service) putBack(ctx context.Context, g *generation, snap shmbridge.Snapshot) error {
	m := s.memory
	began := time.Now()
	err := s.unmapped(ctx, m, func() error {
		return m.store.Restore(ctx, m.segment, snap, shmbridge.RestoreOptions{Generation: g.number})
	})
	if err == nil {
		s.tell(func() {
			s.observe(Event{What: EventRestored, Generation: g.number, Message: fmt.Sprintf("the segment is as in snapshot %d of %s", snap.Number, snap.Time.Format(time.RFC3339)), Took: time.Since(began)})
		})
	}
	return err
}

// unmapped replaces the segment's bytes, once nobody but us maps it.
func (s *Service) unmapped(ctx context.Context, m *memory, replace func() error) error {
	if err := s.endLingering(ctx); err != nil {
		return err
	}
	deadline := time.NewTimer(leavingMappers)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := replace()
		if err == nil || !errors.Is(err, shmbridge.ErrMapped) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			if who, e := m.segment.MappedBy(); e == nil && len(who.Pids) > 0 {
				err = fmt.Errorf("the segment is %w by %s", shmbridge.ErrMapped, names(who.Pids))
			}
			return err
		}
	}
}

// endLingering ends the generations that have confirmed that they write no
// more and linger with the segment mapped: its bytes are about to be replaced.
func (s *Service) endLingering(ctx context.Context) error {
	var ends []context.Context
	err := s.ask(ctx, func() {
		for _, g := range s.generations {
			if g.confirmed {
				s.kill(g, g.then)
				ends = append(ends, g.run)
			}
		}
	})
	for _, end := range ends {
		select {
		case <-end.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// leavingMappers is how long a process that is no member of a generation may
// take to let go of the segment before it counts as a stranger.
const leavingMappers = 2 * time.Second

// names says who processes are.
func names(pids []int) string {
	all := make([]string, len(pids))
	for i, pid := range pids {
		all[i] = "pid " + strconv.Itoa(pid)
		if name := commandOf(pid); name != "" {
			all[i] += " (" + name + ")"
		}
	}
	return strings.Join(all, ", ")
}
