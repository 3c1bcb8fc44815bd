package shmbridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	snapshotSuffix = ".snap"
	spareSuffix    = ".spare"
)

// StoreConfig says how snapshots are kept. Its zero value is of use.
type StoreConfig struct {
	Keep    int // how many of a segment; 0: 3
	Workers int // processors that the first phase uses, while the server runs; 0: 1
}

// Store is a directory of snapshots: NAME.NUMBER.snap, of any number of segments. For each segment there may also be a
// spare, .NAME.spare, which the next snapshot is written into: a file whose pages are there already. Who writes a
// segment's snapshots holds the segment.
type Store struct {
	dir     string
	keep    int
	workers int
	chunk   func(first int64) // for tests: called after each chunk that is copied
}

// Snapshot is a snapshot's file.
type Snapshot struct {
	Header
	Path string
	Err  error // why it is refused, by its header alone; nil: it is not, so far
}

// OpenStore makes the directory where it is not there yet, for its owner alone.
func OpenStore(dir string, c StoreConfig) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("shmbridge: open the snapshots: %w", err)
	}
	if c.Keep < 1 {
		c.Keep = 3
	}
	if c.Workers < 1 {
		c.Workers = 1
	}
	return &Store{dir: dir, keep: c.Keep, workers: c.Workers}, nil
}

// Dir is the store's directory.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(spec Spec, number uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s.%010d%s", spec.fileName(), number, snapshotSuffix))
}

func (s *Store) spare(spec Spec) string {
	return filepath.Join(s.dir, "."+spec.fileName()+spareSuffix)
}

// List returns the snapshots of a segment, the newest last. Their headers are read, their blocks are not (Verify); what is
// damaged is listed with its Err.
func (s *Store) List(spec Spec) ([]Snapshot, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("shmbridge: list the snapshots: %w", err)
	}
	var list []Snapshot
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), spec.fileName()+".")
		if ok {
			text, ok = strings.CutSuffix(text, snapshotSuffix)
		}
		number, err := strconv.ParseUint(text, 10, 64)
		if !ok || err != nil {
			continue
		}
		snap, err := ReadSnapshot(filepath.Join(s.dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err == nil && snap.Identity != spec.Identity() {
			err = fmt.Errorf("shmbridge: %s is %w: %s", snap.Path, ErrForeign, snap.Identity)
		}
		snap.Number, snap.Err = number, err
		list = append(list, snap)
	}
	slices.SortFunc(list, func(a, b Snapshot) int { return cmp.Compare(a.Number, b.Number) })
	return list, nil
}

// Latest returns the newest snapshot of a segment that its header does not refuse. Errors match ErrNoSnapshot.
func (s *Store) Latest(spec Spec) (Snapshot, error) {
	list, err := s.List(spec)
	if err != nil {
		return Snapshot{}, err
	}
	for _, snap := range slices.Backward(list) {
		if snap.Err == nil {
			return snap, nil
		}
	}
	return Snapshot{}, fmt.Errorf("shmbridge: %s in %s: %w", spec.Identity(), s.dir, ErrNoSnapshot)
}

// ReadSnapshot reads a snapshot's header. Errors match ErrNotSnapshot, ErrVersion, ErrTruncated, ErrTooLarge, ErrCorrupt
// and fs's.
func ReadSnapshot(path string) (Snapshot, error) {
	f, snap, err := openSnapshot(path)
	if err != nil {
		return snap, err
	}
	return snap, f.Close()
}

func openSnapshot(path string) (*os.File, Snapshot, error) {
	snap := Snapshot{Path: path}
	info, err := os.Lstat(path) // before it is opened: a fifo would hang us
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: no regular file", path, ErrNotSnapshot)
	}
	if err != nil {
		return nil, snap, fmt.Errorf("shmbridge: read a snapshot: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, snap, fmt.Errorf("shmbridge: read a snapshot: %w", err)
	}
	info, err = f.Stat()
	b := make([]byte, headerSize)
	if err == nil {
		var n int
		if n, err = f.ReadAt(b, 0); errors.Is(err, io.EOF) {
			err = nil
		}
		b = b[:n]
	}
	if err == nil {
		snap.Header, err = decode(b, info.Size())
	}
	if err != nil {
		_ = f.Close() // it was only read
		return nil, snap, fmt.Errorf("shmbridge: read the snapshot %s: %w", path, err)
	}
	return f, snap, nil
}

// Verify reads all of a snapshot and compares all its checksums. Errors are those of ReadSnapshot, and ctx's.
func Verify(ctx context.Context, path string) (Snapshot, error) {
	c, err := openContent(ctx, path)
	if err != nil {
		return c.Snapshot, err
	}
	return c.Snapshot, c.unmap()
}

// content is a snapshot that was verified, mapped.
type content struct {
	Snapshot
	*mapping
	data []byte
	sums table
}

// openContent maps a snapshot and verifies it. The caller unmaps it.
func openContent(ctx context.Context, path string) (content, error) {
	f, snap, err := openSnapshot(path)
	if err != nil {
		return content{Snapshot: snap}, err
	}
	defer f.Close()
	c := content{Snapshot: snap}
	if c.mapping, err = mapToRead(f, fileSize(snap.Size)); err != nil {
		return c, fmt.Errorf("shmbridge: read the snapshot %s: %w", path, err)
	}
	c.data = c.bytes[headerSize : headerSize+snap.Size]
	c.sums = c.bytes[tableAt(snap.Size):]
	if err := c.verify(ctx); err != nil {
		_ = c.unmap() // the error that is told is why
		return c, fmt.Errorf("shmbridge: verify the snapshot %s: %w", path, err)
	}
	return c, nil
}

func (c content) verify(ctx context.Context) error {
	err := guard(ErrTruncated, func() error {
		if c.sums.sum() != c.TableSum {
			return fmt.Errorf("%w: the table of checksums", ErrCorrupt)
		}
		for _, b := range c.bytes[headerSize+c.Size : tableAt(c.Size)] {
			if b != 0 {
				return fmt.Errorf("%w: the padding", ErrCorrupt)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return work{size: c.Size, fault: ErrTruncated, do: verifyAll(c.data, c.sums)}.run(ctx)
}

// prune removes the oldest snapshots of a segment but keep, and makes the newest of those its spare.
func (s *Store) prune(spec Spec) error {
	list, err := s.List(spec)
	if err != nil {
		return err
	}
	var errs []error
	for i, snap := range slices.Backward(list[:max(0, len(list)-s.keep)]) {
		if i == len(list)-s.keep-1 {
			errs = append(errs, os.Rename(snap.Path, s.spare(spec)))
		} else {
			errs = append(errs, os.Remove(snap.Path))
		}
	}
	return errors.Join(errs...)
}
