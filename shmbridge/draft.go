package shmbridge

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"
)

// draftGeneration is the number of the one generation that writes a draft.
const draftGeneration = 2

// Draft is a private copy of a segment, on which a command brings the bytes into another schema: memory of its own, with
// a bridge page of its own, gone with the descriptors. What becomes of it changes nothing of the segment, until
// [Store.Migrate].
type Draft struct {
	segment *Segment // the copy
}

// Draft copies the segment as it is. A copy from under a writer is unsaved, as after a failure of power. Errors match
// ErrNoSpace and ErrUnsupported.
func (s *Segment) Draft(ctx context.Context) (*Draft, error) {
	fail := func(err error) (*Draft, error) {
		return nil, fmt.Errorf("shmbridge: copy %s for a migration: %w", s.spec.Identity(), err)
	}
	src, err := s.memory()
	if err != nil {
		return fail(err)
	}
	before, err := s.words.Status()
	if err != nil {
		return fail(err)
	}
	c, err := Open(draftSpec(s.size), Config{})
	if err != nil {
		return fail(err)
	}
	dst, err := c.memory()
	if err == nil {
		err = work{size: s.size, fault: ErrSize, do: copyDifferent(dst, src)}.run(ctx)
	}
	if err == nil {
		r := restored{state: before.State, savedAt: nanoseconds(before.SavedAt), checksum: before.Checksum, schema: before.Schema}
		err = c.words.guard(func() error {
			if _, err := c.words.begin(draftGeneration-1, r); err != nil {
				return err
			}
			return c.words.finish(draftGeneration-1, r)
		})
	}
	if err == nil {
		err = c.Lease(draftGeneration, 0)
	}
	if err != nil {
		_ = c.Close() // the error that is told is why
		return fail(err)
	}
	return &Draft{segment: c}, nil
}

// copyDifferent returns a pass that makes dst what src is, and writes to no block that is the same.
func copyDifferent(dst, src []byte) func(first, past int64) error {
	return func(first, past int64) error {
		for n := first; n < past; n++ {
			if from, to := block(src, n), block(dst, n); !bytes.Equal(from, to) {
				copy(to, from)
			}
		}
		return nil
	}
}

// Command is what a command on a segment is started with.
type Command struct {
	Files []*os.File // its descriptors from 3 on, lent
	Env   []string   // KEY=VALUE
}

// Command returns what the command that migrates finds: Files as descriptors from 3 on, and the environment of a
// generation of the copy, by which it may attach to it as a server does.
func (d *Draft) Command() (Command, error) {
	files := d.segment.Files()
	numbers := make([]int, len(files))
	for i := range numbers {
		numbers[i] = 3 + i
	}
	env, err := d.segment.Environ(numbers...)
	return Command{Files: files, Env: append(env, fmt.Sprintf("%s=%d", EnvGeneration, draftGeneration))}, err
}

// Finish ends the command's turn, after it has ended with success: the copy is in the schema now. A command that took the
// lease must have saved, in that schema.
func (d *Draft) Finish(schema uint64) error {
	state, err := d.segment.Ended(draftGeneration, ExitClean)
	if err != nil {
		return err
	}
	now, err := d.segment.State()
	switch {
	case err != nil:
		return err
	case state != Saved:
		return fmt.Errorf("shmbridge: the migration left its copy %v", state)
	case now.Managed && now.Schema != schema:
		return fmt.Errorf("shmbridge: the migration wrote schema %d, not %d: %w", now.Schema, schema, ErrSchema)
	}
	return nil
}

// Close releases the copy.
func (d *Draft) Close() error { return d.segment.Close() }

// Migrate replaces the segment's bytes by those of a draft that is in the schema, while nobody but us maps it, for a
// generation later than all that had the lease. snap is of the segment as it is: what is cut short, by a crash or by ctx,
// is undone by Finish, which puts snap back. Errors match ErrMapped, ErrSize and ErrVoid.
func (s *Store) Migrate(ctx context.Context, segment *Segment, d *Draft, snap Snapshot, schema uint64, o RestoreOptions) error {
	fail := func(err error) error {
		return fmt.Errorf("shmbridge: migrate %s: %w", segment.spec.Identity(), err)
	}
	var g uint32
	if o.Generation != 0 {
		var err error
		if g, err = segment.onPage(o.Generation); err != nil {
			return err
		}
	}
	if d.segment.size != segment.size {
		return fail(fmt.Errorf("%w: %d bytes into %d", ErrSize, d.segment.size, segment.size))
	}
	src, err := d.segment.memory()
	if err != nil {
		return fail(err)
	}
	r := restored{number: snap.Number, state: Saved, savedAt: nanoseconds(time.Now()), schema: schema}
	err = s.replace(ctx, segment, g, r, func(dst []byte) func(first, past int64) error { return copyDifferent(dst, src) })
	if err != nil {
		return fail(err)
	}
	return nil
}
