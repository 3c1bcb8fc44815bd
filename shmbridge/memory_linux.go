package shmbridge

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// allocate gives a file its size, at least, and every byte of it a place, so that no write into a mapping can fail.
func allocate(f *os.File, size int64) error {
	err := control(f, func(fd int) error {
		for {
			if err := unix.Fallocate(fd, 0, 0, size); err != unix.EINTR {
				return err
			}
		}
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		return writeZeros(f, size)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return fmt.Errorf("allocate %d bytes of %s: %w%s (%w)", size, f.Name(), ErrNoSpace, room(f), err)
	}
	return fmt.Errorf("allocate %d bytes of %s: %w", size, f.Name(), err)
}

// writeZeros is for file systems that cannot allocate otherwise: it writes what is missing at the file's end. Holes in
// what exists stay as they are.
func writeZeros(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at := info.Size(); at < size; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at)
		at += int64(n)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
			return errors.Join(fmt.Errorf("write %d bytes of %s: %w%s (%w)", size, f.Name(), ErrNoSpace, room(f), err), f.Truncate(info.Size()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// room says how much there is in the file system of f, for a message.
func room(f *os.File) string {
	var st unix.Statfs_t
	if control(f, func(fd int) error { return unix.Fstatfs(fd, &st) }) != nil || st.Blocks == 0 {
		return ""
	}
	return fmt.Sprintf(": its file system has %d bytes, %d free", st.Blocks*uint64(st.Bsize), st.Bavail*uint64(st.Bsize))
}

// enoughMemory refuses a segment that the machine, or our control group, cannot hold: memory that is promised beyond it
// ends in the OOM killer.
func enoughMemory(size int64) error {
	free, err := availableMemory()
	if err == nil && size > free {
		return fmt.Errorf("%d bytes: %w: the machine has %d bytes available", size, ErrNoSpace, free)
	}
	limit, where := memoryLimit("/sys/fs/cgroup", "/proc/self/cgroup")
	if limit > 0 && size > limit {
		return fmt.Errorf("%d bytes: %w: %s allows %d bytes", size, ErrNoSpace, where, limit)
	}
	return nil // also when nobody could say: then allocation will
}

func availableMemory() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	var total int64
	known := false
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != "MemAvailable:" && fields[0] != "SwapFree:" {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, err
		}
		known = known || fields[0] == "MemAvailable:"
		total += kib << 10
	}
	if !known {
		return 0, errors.New("no MemAvailable")
	}
	return total, nil
}

// memoryLimit returns the least memory.max of our control group (version 2) and those above it, and its file; 0: none.
func memoryLimit(root, membership string) (int64, string) {
	f, err := os.Open(membership)
	if err != nil {
		return 0, ""
	}
	defer f.Close()
	group := "/"
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if path, v2 := strings.CutPrefix(lines.Text(), "0::"); v2 {
			group = filepath.Clean("/" + path)
		}
	}
	var least int64
	var where string
	for ; ; group = filepath.Dir(group) {
		path := filepath.Join(root, group, "memory.max")
		if text, err := os.ReadFile(path); err == nil {
			n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" is no number
			if err == nil && (where == "" || n < least) {
				least, where = n, path
			}
		}
		if group == "/" {
			return least, where
		}
	}
}

// mapDescriptor maps an inherited descriptor, which stays open.
func mapDescriptor(fd int, size int64) (*mapping, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	f := os.NewFile(uintptr(own), "descriptor "+strconv.Itoa(fd))
	defer f.Close()
	return mapFile(f, size)
}

func mapSection(string, int64) (*mapping, error) {
	return nil, fmt.Errorf("sections are Windows': %w", ErrUnsupported)
}

// held is nothing but a name here: descriptors are all there is.
type held struct {
	side string // the path of the bridge page; empty: none
}

func (held) release() error { return nil }

// sync brings a segment that is a file to its disk, with what others wrote into their mappings.
func (s *Segment) sync() error {
	if s.spec.Kind != File {
		return nil
	}
	return s.file.Sync()
}

// sync brings what was written into the mapping of f to the disk.
func (*mapping) sync(f *os.File) error { return f.Sync() }

// draftSpec names the copy that a migration works on.
func draftSpec(size int64) Spec { return Spec{Kind: Memfd, Name: "draft", Size: size} }

// populate makes the pages of a mapping present, so that no fault happens later. It is a favour: kernels before 5.14 do
// not know it.
func populate(b []byte) {
	if len(b) > 0 {
		_ = unix.Madvise(b, unix.MADV_POPULATE_READ)
	}
}
