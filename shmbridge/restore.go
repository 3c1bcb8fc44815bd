package shmbridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// RestoreOptions say for whom a snapshot is put back.
type RestoreOptions struct {
	Generation int // the one that is to get the lease, later than all that had it; 0: the next
}

// Restore verifies a snapshot and puts its bytes back into the segment, in place, while nobody but us maps it. From its
// begin no older lease is good for anything, and none is given until it has ended: one that is cut short, by a crash or
// by ctx, is noticed by every process (Status.Restoring) and ended by Finish or by another Restore. The segment is then
// in the state in which the snapshot was taken. Errors match those of Verify, and ErrForeign, ErrSize, ErrMapped, ErrVoid.
func (s *Store) Restore(ctx context.Context, segment *Segment, snap Snapshot, o RestoreOptions) error {
	fail := func(err error) error {
		return fmt.Errorf("shmbridge: restore %s from %s: %w", segment.spec.Identity(), snap.Path, err)
	}
	var g uint32
	if o.Generation != 0 {
		var err error
		if g, err = segment.onPage(o.Generation); err != nil {
			return err
		}
	}
	c, err := openContent(ctx, snap.Path)
	if err != nil {
		return err
	}
	err = s.restore(ctx, segment, c, g)
	if err := errors.Join(err, c.unmap()); err != nil {
		return fail(err)
	}
	return nil
}

func (s *Store) restore(ctx context.Context, segment *Segment, c content, g uint32) error {
	switch {
	case c.Identity != segment.spec.Identity():
		return fmt.Errorf("%w: %s", ErrForeign, c.Identity)
	case c.Size > segment.size:
		return fmt.Errorf("%w: %d bytes into %d", ErrTooLarge, c.Size, segment.size)
	case c.Size != segment.size:
		return fmt.Errorf("%w: %d bytes into %d", ErrSize, c.Size, segment.size)
	}
	r := restored{
		number: c.Number, state: c.State, savedAt: nanoseconds(c.SavedAt), checksum: c.Checksum, schema: c.Schema,
	}
	return s.replace(ctx, segment, g, r, func(dst []byte) func(first, past int64) error { return putBack(dst, c.data, c.sums) })
}

// replace replaces the segment's bytes by a pass over them, while nobody but us maps it, for generation g; then they are
// what r says. When it is cut short, Finish puts back the snapshot with r's number.
func (s *Store) replace(ctx context.Context, segment *Segment, g uint32, r restored, pass func(dst []byte) func(first, past int64) error) error {
	dst, err := segment.memory()
	if err != nil {
		return err
	}
	populate(dst)
	mappers, err := segment.MappedBy()
	if err == nil {
		err = mappers.err()
	}
	if err != nil {
		return err
	}
	words := segment.words
	if err := words.guard(func() (err error) { g, err = words.begin(g, r); return err }); err != nil {
		return err
	}
	if err := (work{size: segment.size, fault: ErrSize, done: s.chunk, do: pass(dst)}).run(ctx); err != nil {
		return err
	}
	if err := segment.flush(); err != nil {
		return err
	}
	return words.guard(func() error { return words.finish(g, r) })
}

// Finish ends a restore that was cut short, and tells whether there was one. Errors match those of Restore, and
// ErrNoSnapshot when the snapshot is not in this store any more.
func (s *Store) Finish(ctx context.Context, segment *Segment) (bool, error) {
	now, err := segment.words.Status()
	if err != nil || !now.Restoring {
		return false, err
	}
	list, err := s.List(segment.spec)
	if err != nil {
		return true, err
	}
	at := slices.IndexFunc(list, func(snap Snapshot) bool { return snap.Number == now.Snapshot })
	if at < 0 {
		return true, fmt.Errorf("shmbridge: finish the restore of %s: snapshot %d in %s: %w", segment.spec.Identity(),
			now.Snapshot, s.dir, ErrNoSnapshot)
	}
	return true, s.Restore(ctx, segment, list[at], RestoreOptions{})
}
