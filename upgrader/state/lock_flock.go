//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package state

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openLock opens a file that is to be locked, and makes it if it may.
func openLock(path string, create bool) (*os.File, error) {
	flags := os.O_RDWR | unix.O_NOFOLLOW
	if create {
		flags |= os.O_CREATE
	}
	return os.OpenFile(path, flags, 0o600)
}

// tryLock takes an exclusive flock(2) on f, and reports false when somebody
// else has one.
func tryLock(f *os.File) (bool, error) { return tryFlock(f, unix.LOCK_EX) }

// tryShared is tryLock of a lock that several may have at a time.
func tryShared(f *os.File) (bool, error) { return tryFlock(f, unix.LOCK_SH) }

func tryFlock(f *os.File, how int) (bool, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var flockErr error
	err = raw.Control(func(fd uintptr) {
		for {
			flockErr = unix.Flock(int(fd), how|unix.LOCK_NB)
			if flockErr != unix.EINTR {
				return
			}
		}
	})
	switch {
	case err != nil:
		return false, err
	case errors.Is(flockErr, unix.EWOULDBLOCK):
		return false, nil
	case flockErr != nil:
		return false, os.NewSyscallError("flock", flockErr)
	}
	return true, nil
}

// duplicate gives another descriptor of the same open file, which shares its
// lock. It is closed on exec.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// renamesOpen: a file can be renamed while it is open, and keeps its lock.
const renamesOpen = true

// cannotLock reports whether err says that the file system has no locks.
func cannotLock(err error) bool {
	return errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}

// cannotLink reports whether err says that the file system has no links.
func cannotLink(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EMLINK) || errors.Is(err, errors.ErrUnsupported)
}
