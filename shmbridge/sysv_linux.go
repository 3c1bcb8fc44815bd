package shmbridge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags of System V segments (linux/shm.h).
const (
	shmDest = 0o1000 // in the mode: removed as soon as nobody is attached
	shmPerm = 0o777  // in the mode: its permissions
)

// openSysV finds or makes the segment of the key, and attaches it: tools that remove what nobody is attached to leave it.
func (s *Segment) openSysV(c Config) error {
	key := int(int32(s.spec.Key))
	id, err := unix.SysvShmGet(key, 0, 0)
	if err == unix.ENOENT {
		if gone, e := removedSysV(s.spec.Key); e != nil || gone >= 0 {
			return errors.Join(e, fmt.Errorf("segment %d of this key is still attached: %w: end its servers, or wait", gone, ErrRemoved))
		}
		if s.spec.Size == 0 {
			return fmt.Errorf("shmget: %w: to create it, add ,size=SIZE", err)
		}
		if err := c.system.enough(s.spec.Size); err != nil {
			return err
		}
		id, err = unix.SysvShmGet(key, int(s.spec.Size), unix.IPC_CREAT|unix.IPC_EXCL|int(c.Mode.Perm()))
		s.created = err == nil
		if err == unix.EEXIST { // another was quicker
			id, err = unix.SysvShmGet(key, 0, 0)
		}
	}
	switch err {
	case nil:
	case unix.ENOSPC, unix.ENOMEM, unix.EINVAL:
		return fmt.Errorf("shmget of %d bytes: %w: see kernel.shmmax, shmall, shmmni (%w)", s.spec.Size, ErrNoSpace, err)
	default:
		return os.NewSyscallError("shmget", err)
	}
	s.id = id
	if err := s.attachSysV(c); err != nil {
		if s.created {
			err = errors.Join(err, s.removeSegment())
		}
		return err
	}
	return nil
}

func (s *Segment) attachSysV(c Config) error {
	var info unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(s.id, unix.IPC_STAT, &info); err != nil {
		return os.NewSyscallError("shmctl", err)
	}
	have := int64(info.Segsz)
	switch {
	case s.spec.Size != 0 && have != s.spec.Size:
		return fmt.Errorf("segment %d has %d bytes, not %d: %w", s.id, have, s.spec.Size, ErrSize)
	case uint32(info.Perm.Mode)&shmDest != 0:
		return fmt.Errorf("segment %d: %w", s.id, ErrRemoved)
	case !s.created:
		if err := checkOwner("segment "+strconv.Itoa(s.id), info.Perm.Uid, c); err != nil {
			return err
		}
	case c.Uid != nil || c.Gid != nil:
		if c.Uid != nil {
			info.Perm.Uid = *c.Uid
		}
		if c.Gid != nil {
			info.Perm.Gid = *c.Gid
		}
		if _, err := unix.SysvShmCtl(s.id, unix.IPC_SET, &info); err != nil {
			return os.NewSyscallError("shmctl", err)
		}
	}
	s.size = have
	var err error
	if s.data, err = mapSysV(s.id, s.size); err != nil {
		return err
	}
	if s.created { // its pages now, while a lack of them can be told
		if err := unix.Madvise(s.data.bytes, unix.MADV_POPULATE_WRITE); err != nil && err != unix.EINVAL {
			return fmt.Errorf("populate %d bytes: %w (%w)", s.size, ErrNoSpace, err)
		}
	}
	return nil
}

func mapSysV(id int, size int64) (*mapping, error) {
	b, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("attach segment %d: %w", id, os.NewSyscallError("shmat", err))
	}
	m := &mapping{bytes: b, flush: func() error { return nil }, unmap: func() error { return unix.SysvShmDetach(b) }}
	if int64(len(b)) != size {
		return nil, errors.Join(fmt.Errorf("segment %d has %d bytes, not %d: %w", id, len(b), size, ErrSize), m.unmap())
	}
	return m, nil
}

// checkSysV: the key must still lead to our id, which must not be marked for removal.
func (s *Segment) checkSysV() error {
	var info unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(s.id, unix.IPC_STAT, &info); err != nil {
		return fmt.Errorf("shmbridge: segment %d: %w (%w)", s.id, ErrRemoved, err)
	}
	if uint32(info.Perm.Mode)&shmDest != 0 {
		return fmt.Errorf("shmbridge: segment %d: %w", s.id, ErrRemoved)
	}
	if id, err := unix.SysvShmGet(int(int32(s.spec.Key)), 0, 0); err != nil || id != s.id {
		return fmt.Errorf("shmbridge: segment %d: its key leads elsewhere: %w", s.id, ErrRemoved)
	}
	return nil
}

// removedSysV looks for a segment of a key that nobody can find by it any more, because it is marked for removal and only
// lives on in those that map it: the kernel takes the key away at once, but mappings keep it in their names. It returns
// the segment's id, or -1.
func removedSysV(key uint32) (int, error) {
	name := fmt.Sprintf("/SYSV%08x", key)
	pids, err := allPids()
	if err != nil {
		return -1, err
	}
	for _, pid := range pids {
		maps, err := readMaps(filepath.Join("/proc", strconv.Itoa(pid), "maps"))
		if err != nil {
			continue // gone, or not to be seen
		}
		for _, m := range maps {
			var info unix.SysvShmDesc
			if !strings.HasPrefix(m.path, name) {
				continue
			}
			if _, err := unix.SysvShmCtl(int(m.inode), unix.IPC_STAT, &info); err == nil && uint32(info.Perm.Mode)&shmDest != 0 {
				return int(m.inode), nil
			} // else of another IPC name space
		}
	}
	return -1, nil
}
