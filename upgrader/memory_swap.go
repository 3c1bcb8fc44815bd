package upgrader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/control"
)

// copying is the snapshot that a swap can be rolled back to. Its first phase
// is over when there is one; the second and the commit come after the
// predecessor.
type copying struct {
	taking   *shmbridge.Taking
	declared []uint64      // schemas that the successor's command declares
	begun    bool          // the second phase was handed to a goroutine, which owns taking from then on; the loop's
	done     chan struct{} // closed when snap and err stand
	snap     shmbridge.Snapshot
	err      error
	void     bool // the second phase failed: nobody was let to the segment behind it; stands when done is closed
}

var errAbandoned = errors.New("the snapshot was given up")

// abandon ends a copying whose second phase was not begun.
func (m *memory) abandon(c *copying) {
	if c == nil {
		return
	}
	c.taking.Abort()
	c.err, c.void = errAbandoned, true
	close(c.done)
	<-m.turn
}

// prepare does what can be done, and what can fail, while the predecessor
// still serves; then g replaces it.
func (s *Service) prepare(g *generation) {
	w := s.swap
	s.move(PrepareAsked)
	w.enter("copy", time.Now())
	s.spawn(func() {
		began := time.Now()
		c, err := s.firstCopy(g, w.restore)
		told := s.tell(func() {
			switch {
			case s.state != Preparing || s.swap != w: // the server died, or a stop came
				s.memory.abandon(c)
			case err != nil:
				s.notPrepared(control.RolledBack, err.Error())
			default:
				w.copy = c
				rest := "what changes from now on is copied while the successor starts"
				if _, why := s.secondPhase(); why != "" {
					rest = "the successor starts when what changes from now on is copied, too: " + why
				}
				s.note(g, fmt.Sprintf("the segment was copied in %v while its writer ran; %s", time.Since(began).Round(time.Microsecond), rest), nil)
				s.replace(g)
			}
		})
		if !told {
			s.memory.abandon(c)
		}
	})
}

// notPrepared ends the swap that is being prepared: its predecessor was not
// touched.
func (s *Service) notPrepared(verdict, reason string) {
	g := s.swap.to
	s.move(StartFailed)
	s.forget(g)
	s.conclude(verdict, reason, nil)
}

// firstCopy proves what can be proved, and copies the segment a first time.
func (s *Service) firstCopy(g *generation, restore *shmbridge.Snapshot) (*copying, error) {
	m, ctx := s.memory, g.grace
	if err := m.sound(); err != nil {
		return nil, err
	}
	declared, err := s.schemas(g.recipe)
	if err != nil {
		return nil, err
	}
	if restore != nil {
		if _, err := shmbridge.Verify(ctx, restore.Path); err != nil {
			return nil, err
		}
		err = shmbridge.Compatible(restore.Schema, declared)
	} else {
		err = s.rehearse(ctx, g, declared)
	}
	if err != nil {
		return nil, err
	}
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t, err := m.store.Begin(m.segment)
	if err == nil {
		if err = t.First(ctx); err == nil {
			return &copying{taking: t, declared: declared, done: make(chan struct{})}, nil
		}
		t.Abort()
	}
	<-m.turn
	return nil, err
}

// errands are what has to be done with the segment before a generation
// starts, in this order.
type errands struct {
	ours    func(pid int) bool  // tells of a process whether it is of a generation
	others  []context.Context   // ends of generations that may still write
	copy    *copying            // whose second phase is due
	undo    *copying            // to be put back
	restore *shmbridge.Snapshot // to be put back because somebody asked for it
	besides error               // why nothing may start while the second phase runs; nil: it may
}

// errands are those of g, which is about to start.
func (s *Service) errands(g *generation) errands {
	e := errands{ours: s.isOurs()}
	m, w := s.memory, s.swap
	if m == nil {
		return e
	}
	for _, other := range s.generations {
		if other != g && !other.confirmed { // who has confirmed writes no more
			e.others = append(e.others, other.run)
		}
	}
	switch {
	case w == nil:
	case s.state == Reverting:
		if w.copy != nil {
			m.owed = w.copy
		}
		s.setCurrent(s.fallback) // whatever becomes of this start, the successor does not come back
	case w.to == g:
		e.restore = w.restore
		switch {
		case w.copy == nil:
		case w.copy.begun: // for another one that was started in its place: it may have written
			m.owed = w.copy
		default:
			e.copy, w.copy.begun = w.copy, true
		}
	}
	e.undo, e.besides = m.owed, s.besides()
	return e
}

// runErrands runs them. When it has returned without an error, g may start,
// and write once p is open.
func (s *Service) runErrands(g *generation, e errands) (p *passage, err error) {
	m, ctx := s.memory, g.grace
	if err := s.endOutsiders(g, e.ours); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, nil
	}
	for _, other := range e.others {
		select {
		case <-other.Done():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	switch {
	case e.copy == nil:
	case e.onlyCopy(m):
		p = s.secondBeside(m, g, e.copy)
	default:
		if err := s.secondCopy(ctx, e.copy); err != nil {
			return nil, err
		}
	}
	if err := s.furnishMemory(g, e); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// furnishMemory makes the segment what g is to find.
func (s *Service) furnishMemory(g *generation, e errands) error {
	m, ctx := s.memory, g.grace
	undone := false
	if e.undo != nil {
		var err error
		if undone, err = s.undo(g, e.undo); err != nil {
			return err
		}
	}
	switch {
	case e.restore != nil:
		return s.putBack(ctx, g, *e.restore)
	case undone:
		return nil
	}
	if _, err := m.store.Finish(ctx, m.segment); err != nil { // a restore that a crash cut short
		return err
	}
	snap, err := s.judge(g, e)
	if err != nil {
		return err
	}
	return s.migrate(g, e, snap)
}

// secondCopy copies what changed since the first one, now that nobody writes.
// The snapshot is brought to the disk while the successor starts.
func (s *Service) secondCopy(ctx context.Context, c *copying) error {
	m := s.memory
	began, before := time.Now(), c.taking.Copied()
	err := c.taking.Second(ctx)
	if err != nil {
		s.memory.abandon(c)
		return err
	}
	took, changed := time.Since(began), c.taking.Copied()-before
	s.spawn(func() { s.commitCopy(m, c, took, changed) })
	return nil
}

// commitCopy brings a complete snapshot to the disk.
func (s *Service) commitCopy(m *memory, c *copying, took time.Duration, changed int64) {
	c.snap, c.err = c.taking.Commit()
	late := c.err
	if c.snap.Path != "" { // it stands; older ones could not be removed
		c.err = nil
	}
	close(c.done)
	<-m.turn
	s.tell(func() {
		if late != nil {
			s.note(nil, "", late)
		}
		if c.err == nil {
			s.observe(Event{What: EventSnapshot, Message: fmt.Sprintf("%s (%d bytes changed since the first copy)", c.snap.Path, changed), Took: took})
		}
	})
}

// undo puts the bytes back that were there before the successor, and reports
// whether there was anything to undo.
func (s *Service) undo(g *generation, c *copying) (bool, error) {
	m := s.memory
	select {
	case <-c.done:
	case <-g.grace.Done():
		return false, g.grace.Err()
	}
	settled := func(said string) {
		s.tell(func() {
			m.owed = nil
			if w := s.swap; w != nil && s.state == Reverting && said != "" {
				w.reason += said
			}
		})
	}
	switch {
	case c.void:
		settled("")
		return false, nil
	case c.err != nil:
		settled("")
		return false, fmt.Errorf("the memory could not be restored, there is no snapshot: %w", c.err)
	}
	if err := s.putBack(g.grace, g, c.snap); err != nil {
		return false, fmt.Errorf("the memory could not be restored: %w", err)
	}
	settled(fmt.Sprintf("; the memory was restored to snapshot %d", c.snap.Number))
	return true, nil
}

// copied is told when no verdict of w can need its snapshot any more.
func (s *Service) copied(w *swap) {
	if s.memory != nil && w.copy != nil && !w.copy.begun {
		s.memory.abandon(w.copy)
		w.copy = nil
	}
}
