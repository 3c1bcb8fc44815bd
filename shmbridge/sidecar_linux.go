package shmbridge

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sidecarTries bounds how often a bridge page is opened again because its name changed hands meanwhile.
const sidecarTries = 100

// openSidecar opens and locks the bridge page beside a named segment, or makes it, and opens it once more for the
// generations: a lock belongs to the description, and must not live on in them. The page of a segment that is new is
// replaced: it was of an earlier one by that name.
func (s *Segment) openSidecar(c Config) error {
	empty, err := s.measure()
	if err != nil {
		return err
	}
	state := Unsaved // of bytes that nobody vouches for
	if s.created || empty {
		state = Fresh
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	content := format(s.size, state, boot)
	for range sidecarTries {
		if s.lock, err = openPage(s.held.side, c); errors.Is(err, fs.ErrNotExist) {
			s.lock, err = makePage(s.held.side, content, false)
		}
		if errors.Is(err, fs.ErrExist) || errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return err
		}
		if fits, err := pageFits(s.lock, s.size); err != nil {
			return s.pageError(err)
		} else if !fits || state == Fresh {
			old := s.lock
			s.lock, err = makePage(s.held.side, content, true)
			if err = errors.Join(err, old.Close()); err != nil {
				return err
			}
		}
		s.bridge, err = reopen(s.lock)
		return err
	}
	return fmt.Errorf("%s changes all the time: %w", s.held.side, ErrLocked)
}

// errMoved: the name stood for another file when the lock was got.
var errMoved = errors.New("moved")

// openPage opens an existing bridge page and locks it.
func openPage(path string, c Config) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	fail := func(err error) (*os.File, error) {
		_ = f.Close() // the error that is told is why
		return nil, err
	}
	if err := checkOwned(f, c); err != nil {
		return fail(err)
	}
	if err := lock(f); err != nil {
		return fail(err)
	}
	mine, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	if now, err := os.Lstat(path); err != nil || !os.SameFile(mine, now) {
		return fail(errMoved)
	}
	return f, nil
}

// makePage makes a bridge page, complete and locked before it gets its name. Instead of what has the name now, if
// replace; else that is an error that matches fs.ErrExist.
func makePage(path string, content []byte, replace bool) (*os.File, error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	temp := f.Name()
	fail := func(err error) (*os.File, error) {
		_, _ = f.Close(), os.Remove(temp) // the error that is told is why
		return nil, err
	}
	if err := lock(f); err != nil {
		return fail(err)
	}
	if _, err := f.Write(content); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("%w%s (%w)", ErrNoSpace, room(f), err)
		}
		return fail(err)
	}
	if err := f.Sync(); err != nil {
		return fail(err)
	}
	if replace {
		err = os.Rename(temp, path)
	} else if err = unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err == unix.EINVAL || err == unix.ENOSYS {
		if err = os.Link(temp, path); err == nil { // NFS and others know no flags
			err = os.Remove(temp)
		}
	}
	if err != nil {
		return fail(err)
	}
	return f, syncDir(dir)
}

// pageFits tells whether the file is a bridge page of a segment of this size. What is no page of ours is an error.
func pageFits(f *os.File, size int64) (bool, error) {
	m, err := mapFile(f, PageSize)
	if errors.Is(err, ErrSize) {
		return false, fmt.Errorf("%w: too short", ErrPage)
	}
	if err != nil {
		return false, err
	}
	page, err := NewPage(m.bytes)
	var have int64
	if err == nil {
		have, err = page.SegmentSize()
	}
	return have == size, errors.Join(err, m.unmap())
}

// reopen returns a description of its own of the same file.
func reopen(f *os.File) (*os.File, error) {
	var again *os.File
	err := control(f, func(fd int) error {
		own, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return &fs.PathError{Op: "reopen", Path: f.Name(), Err: err}
		}
		again = os.NewFile(uintptr(own), f.Name())
		return nil
	})
	return again, err
}

func lock(f *os.File) error {
	err := control(f, func(fd int) error {
		for {
			if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
				return err
			}
		}
	})
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return os.NewSyscallError("flock", err)
	}
	holder := ""
	var b [8]byte
	if n, _ := f.ReadAt(b[:], atUpgrader); n == len(b) && b != [8]byte{} {
		holder = fmt.Sprintf(" of pid %d", uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16|uint32(b[3])<<24)
	}
	return fmt.Errorf("%s: %w%s", f.Name(), ErrLocked, holder)
}

// sysvSidecar is the name of the bridge page of a System V segment: of its key and its id, because another segment
// of that key gets another id.
func sysvSidecar(key uint32, id int) string {
	return fmt.Sprintf("upgrader-sysv-%08x-%d%s", key, id, sidecarSuffix)
}

func parseUUID(text string) ([16]byte, error) {
	var id [16]byte
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("no UUID: %q", text)
	}
	copy(id[:], b)
	return id, nil
}
