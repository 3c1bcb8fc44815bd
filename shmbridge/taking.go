package shmbridge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// Taking is a snapshot that is being taken: Begin, First while the writer runs, Second after it stopped, Commit. Abort
// ends it at any point; what was copied serves the next one. One goroutine uses it, and one Taking of a segment exists at
// a time.
type Taking struct {
	store    *Store
	segment  *Segment
	src      []byte
	file     *os.File
	target   *mapping // nil: ended
	data     []byte
	sums     table
	known    bool // sums are those of data
	reused   bool // data holds an earlier snapshot
	complete bool // after Second
	header   Header
	copied   atomic.Int64
}

// Begin opens the target, the segment's spare if there is one, with room for all, and makes both sides' pages present.
// Errors match ErrRestoring and ErrNoSpace.
func (s *Store) Begin(segment *Segment) (*Taking, error) {
	t := &Taking{store: s, segment: segment}
	if err := t.begin(); err != nil {
		t.Abort()
		return nil, fmt.Errorf("shmbridge: snapshot of %s: %w", segment.spec.Identity(), err)
	}
	return t, nil
}

func (t *Taking) begin() error {
	if err := t.soundPage(); err != nil {
		return err
	}
	var err error
	if t.src, err = t.segment.memory(); err != nil {
		return err
	}
	path, size := t.store.spare(t.segment.spec), t.segment.size
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	if t.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	info, err := t.file.Stat()
	if err != nil {
		return err
	}
	t.reused = info.Size() == fileSize(size)
	if info.Size() > fileSize(size) {
		if err := t.file.Truncate(fileSize(size)); err != nil {
			return err
		}
	}
	if err := allocate(t.file, fileSize(size)); err != nil {
		t.Abort() // half a target helps nobody, and its room is needed
		return errors.Join(err, os.Remove(path))
	}
	if t.target, err = mapFile(t.file, fileSize(size)); err != nil {
		return err
	}
	t.data = t.target.bytes[headerSize : headerSize+size]
	t.sums = t.target.bytes[tableAt(size):]
	populate(t.src)
	populate(t.target.bytes)
	if err := t.touch(); err != nil {
		return err
	}
	return guard(ErrTruncated, func() error {
		clear(t.target.bytes[:headerSize])
		clear(t.target.bytes[headerSize+size : tableAt(size)])
		return nil
	})
}

// touch reads a byte of each page of both sides. In a virtual machine that keeps page tables of its own for us, the first
// touch of a page through a new mapping costs some microseconds although the page is present: twenty times its copy.
func (t *Taking) touch() error {
	read := func(b []byte) func(first, past int64) error {
		return func(first, past int64) error {
			var all byte
			for n := first; n < past; n++ {
				all |= block(b, n)[0]
			}
			runtime.KeepAlive(all)
			return nil
		}
	}
	sides := []work{
		{size: t.segment.size, fault: ErrSize, do: read(t.src)},
		{size: int64(len(t.target.bytes)), fault: ErrTruncated, do: read(t.target.bytes)},
	}
	for _, side := range sides {
		side.workers = t.store.workers
		if err := side.run(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

func (t *Taking) soundPage() error {
	now, err := t.segment.words.Status()
	if err == nil && now.Restoring {
		err = fmt.Errorf("%w (snapshot %d)", ErrRestoring, now.Snapshot)
	}
	return err
}

// First copies the segment while others write it, and brings the copy to the disk, so that Second has little left to do.
// It may be called again to catch up.
func (t *Taking) First(ctx context.Context) error {
	if t.target == nil {
		return fmt.Errorf("shmbridge: snapshot: %w", os.ErrClosed)
	}
	if t.reused && !t.known { // so that only what differs is written: disks are slow, and flash wears
		if err := t.pass(ctx, work{workers: t.store.workers, do: hashAll(t.data, t.sums)}); err != nil {
			return err
		}
		t.known = true
	}
	if err := t.copy(ctx, work{workers: t.store.workers}); err != nil {
		return err
	}
	if err := t.target.sync(t.file); err != nil {
		return fmt.Errorf("shmbridge: snapshot: %w", err)
	}
	return nil
}

// Second copies what has changed since First, or everything, with all processors. Nobody writes the segment from its
// begin to its end; when it has returned, a successor may. If the page says that somebody wrote, the snapshot is marked
// as unsaved.
func (t *Taking) Second(ctx context.Context) error { return t.second(ctx, work{}) }

// SecondBeside is Second while a successor starts that is kept from the segment until it has returned: one processor does
// it, with what others leave of it, until hurry is closed, because somebody waits.
func (t *Taking) SecondBeside(ctx context.Context, hurry <-chan struct{}) error {
	return t.second(ctx, work{hurry: hurry})
}

func (t *Taking) second(ctx context.Context, w work) error {
	if t.target == nil {
		return fmt.Errorf("shmbridge: snapshot: %w", os.ErrClosed)
	}
	t.complete = false
	before, err := t.segment.words.Status()
	if err != nil {
		return err
	}
	if err := t.copy(ctx, w); err != nil {
		return err
	}
	after, err := t.segment.words.Status()
	if err != nil {
		return err
	}
	if before != after && after.State != Live {
		after.State = Unsaved
	}
	var boot [16]byte
	if err := t.segment.words.guard(func() error { boot = t.segment.words.bootID(); return nil }); err != nil {
		return err
	}
	t.header = Header{
		Identity: t.segment.spec.Identity(), Size: t.segment.size, Time: time.Now(), Generation: after.Generation,
		State: after.State, Schema: after.Schema, SavedAt: after.SavedAt, Checksum: after.Checksum, Saves: after.Total, Boot: boot,
	}
	t.complete = true
	return nil
}

// copy copies what is not in the target yet, by w's workers.
func (t *Taking) copy(ctx context.Context, w work) error {
	if t.known {
		w.do = copyChanged(t.data, t.src, t.sums, &t.copied)
		return t.pass(ctx, w)
	}
	w.do = copyAll(t.data, t.src, t.sums)
	if err := t.pass(ctx, w); err != nil {
		return err
	}
	t.copied.Add(blocks(t.segment.size))
	t.known = true
	return nil
}

func (t *Taking) pass(ctx context.Context, w work) error {
	w.size, w.fault, w.done = t.segment.size, ErrSize, t.store.chunk
	if err := w.run(ctx); err != nil {
		return fmt.Errorf("shmbridge: snapshot of %s: %w", t.segment.spec.Identity(), err)
	}
	return nil
}

// Copied is how many bytes were copied so far.
func (t *Taking) Copied() int64 { return t.copied.Load() * blockSize }

// Commit writes the header, brings all to the disk, gives the snapshot its name, and removes those beyond the store's
// Keep. It may run beside the successor. It ends the Taking.
func (t *Taking) Commit() (Snapshot, error) {
	defer t.Abort()
	if t.target == nil || !t.complete {
		return Snapshot{}, fmt.Errorf("shmbridge: snapshot: commit before its second phase: %w", os.ErrInvalid)
	}
	spec := t.segment.spec
	fail := func(err error) (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("shmbridge: commit the snapshot of %s: %w", spec.Identity(), err)
	}
	list, err := t.store.List(spec)
	if err != nil {
		return fail(err)
	}
	t.header.Number = 1
	if len(list) > 0 {
		t.header.Number = list[len(list)-1].Number + 1
	}
	err = guard(ErrTruncated, func() error {
		t.header.TableSum = t.sums.sum()
		return t.header.encode(t.target.bytes)
	})
	if err != nil {
		return fail(err)
	}
	if err := t.target.sync(t.file); err != nil {
		return fail(err)
	}
	t.Abort() // an open file cannot be renamed on every system
	snap := Snapshot{Header: t.header, Path: t.store.path(spec, t.header.Number)}
	if err := os.Rename(t.store.spare(spec), snap.Path); err != nil {
		return fail(err)
	}
	if err := syncDir(t.store.dir); err != nil {
		return fail(err)
	}
	if err := t.store.prune(spec); err != nil {
		return snap, fmt.Errorf("shmbridge: remove old snapshots: %w", err)
	}
	return snap, nil
}

// Abort ends the Taking. After Commit it does nothing.
func (t *Taking) Abort() {
	if t.target != nil {
		_ = t.target.unmap() // nothing of it is needed any more
		t.target = nil
	}
	if t.file != nil {
		_ = t.file.Close()
		t.file = nil
	}
}
