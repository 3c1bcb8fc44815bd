package shmbridge

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// segmentSeals: nobody can cut the memory off under the others, or seal it against writing.
const segmentSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

func (s *Segment) openMemfd(c Config) error {
	if err := c.system.enough(s.size); err != nil {
		return err
	}
	var err error
	if s.file, err = newMemfd(c, s.spec.Name, s.size, nil); err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	if s.bridge, err = newMemfd(c, s.spec.Name+sidecarSuffix, PageSize, format(s.size, Fresh, boot)); err != nil {
		return err
	}
	if s.lock, err = reopen(s.bridge); err != nil {
		return err
	}
	if err := lock(s.lock); err != nil {
		return err
	}
	s.created = true
	return s.start(c)
}

// newMemfd makes sealed memory that begins with content. Sealing is older (3.17) than what else we need of a kernel, but
// sandboxes take it away.
func newMemfd(c Config, name string, size int64, content []byte) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := c.system.memfd(name, flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before 6.3
		fd, err = c.system.memfd(name, flags)
	}
	switch {
	case err == unix.ENOSYS || err == unix.EINVAL || err == unix.EPERM:
		return nil, fmt.Errorf("memfd_create with sealing: %w (%w)", ErrUnsupported, err)
	case err != nil:
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "memfd:"+name)
	fail := func(err error) (*os.File, error) { return nil, errors.Join(err, f.Close()) }
	if err := allocate(f, size); err != nil {
		return fail(err)
	}
	if len(content) > 0 {
		if _, err := f.WriteAt(content, 0); err != nil {
			return fail(err)
		}
	}
	err = control(f, func(fd int) error {
		_, err := c.system.seal(uintptr(fd), unix.F_ADD_SEALS, segmentSeals)
		return err
	})
	if err != nil {
		return fail(fmt.Errorf("seal %s: %w (%w)", f.Name(), ErrUnsupported, err))
	}
	return f, nil
}
