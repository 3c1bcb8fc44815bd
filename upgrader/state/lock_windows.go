package state

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// openLock opens a file that is to be locked, and makes it if it may.
func openLock(path string, create bool) (*os.File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	return os.OpenFile(path, flags, 0o600)
}

// tryLock locks f, and reports false when somebody else has.
func tryLock(f *os.File) (bool, error) { return tryRange(f, windows.LOCKFILE_EXCLUSIVE_LOCK) }

// tryShared is tryLock of a lock that several may have at a time.
func tryShared(f *os.File) (bool, error) { return tryRange(f, 0) }

// tryRange locks one byte far behind the end: locks are mandatory here, and
// what the file says has to stay readable.
func tryRange(f *os.File, flags uint32) (bool, error) {
	at := windows.Overlapped{OffsetHigh: 0x7fffffff}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return false, nil
	}
	return false, os.NewSyscallError("LockFileEx", err)
}

// duplicate is not possible: a lock belongs to one process here.
func duplicate(*os.File) (*os.File, error) {
	return nil, &os.SyscallError{Syscall: "DuplicateHandle", Err: errors.ErrUnsupported}
}

// renamesOpen: an open file cannot be renamed.
const renamesOpen = false

func cannotLock(error) bool { return false }
func cannotLink(error) bool { return false }
