package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"unsafe"

	"golang.org/x/sys/unix"
)

// Of identifies a running process. ErrGone when there is none, or only its zombie.
func Of(pid int) (Identity, error) {
	s, err := readStat(pid)
	if err == nil && s.zombie {
		err = ErrGone
	}
	if err != nil {
		return Identity{}, fmt.Errorf("process: identify %d: %w", pid, err)
	}
	return s.Identity, nil
}

// Self is this process.
func Self() (Identity, error) { return Of(os.Getpid()) }

// Alive reports whether the process runs. A zombie does not.
func (id Identity) Alive() bool {
	s, err := readStat(id.Pid)
	return err == nil && s.Identity == id && !s.zombie
}

// Executable is the file that the process executes, deleted or not.
func (id Identity) Executable() (Exe, error) {
	exe, err := executable(id.Pid)
	if err == nil && !id.Alive() { // asked afterwards: what was read was its own
		err = ErrGone
	}
	if err != nil {
		return Exe{}, fmt.Errorf("process: executable of %d: %w", id.Pid, err)
	}
	return exe, nil
}

func executable(pid int) (Exe, error) {
	link := "/proc/" + strconv.Itoa(pid) + "/exe"
	path, err := os.Readlink(link)
	if err != nil {
		return Exe{}, gone(err)
	}
	info, err := os.Stat(link) // the file itself, whatever the name leads to
	if err != nil {
		return Exe{}, gone(err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Exe{}, errors.ErrUnsupported
	}
	exe := Exe{Dev: uint64(st.Dev), Ino: st.Ino}
	exe.Path, exe.Deleted = strings.CutSuffix(path, " (deleted)")
	return exe, nil
}

// Pidfd opens a pidfd of this very process. The caller closes it.
func (id Identity) Pidfd() (*os.File, error) {
	fd, err := id.open()
	if err != nil {
		return nil, fmt.Errorf("process: pidfd of %d: %w", id.Pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(id.Pid)), nil
}

// open opens the pidfd first and compares the start time then, so that it cannot be another one's.
func (id Identity) open() (int, error) {
	if id.Pid <= 0 {
		return -1, ErrGone
	}
	fd, err := unix.PidfdOpen(id.Pid, 0)
	if err != nil {
		return -1, gone(err)
	}
	if !id.Alive() {
		_ = unix.Close(fd) // a copy
		return -1, ErrGone
	}
	return fd, nil
}

// noPidfd: before Linux 5.3, or forbidden by a sandbox that knows no better.
func noPidfd(err error) bool { return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) }

// Signal sends sig to this very process. ErrGone when it has ended. Where pidfds are missing, a pid that is used
// again between the look and the signal cannot be told.
func (id Identity) Signal(sig syscall.Signal) error {
	fd, err := id.open()
	switch {
	case err == nil:
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
		_ = unix.Close(fd) // a copy
	case noPidfd(err) && id.Alive():
		err = unix.Kill(id.Pid, sig)
	}
	if err = gone(err); err != nil {
		return fmt.Errorf("process: signal %d with %d: %w", id.Pid, int(sig), err)
	}
	return nil
}

// Wait waits until the process has ended, our child or not; it leaves its status to whoever wants it.
func (id Identity) Wait(ctx context.Context) error {
	fd, err := id.open()
	switch {
	case errors.Is(err, ErrGone):
		return nil
	case noPidfd(err):
		fd = -1
	case err != nil:
		return fmt.Errorf("process: wait for %d: %w", id.Pid, err)
	default:
		defer unix.Close(fd)
	}
	// A pidfd is readable once the process has ended. The wait is cut in slices for ctx's sake; that the first are
	// short spares the reader of a death most of the delay where there is no pidfd.
	for slice := time.Millisecond; id.Alive(); slice = min(2*slice, 100*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("process: wait for %d: %w", id.Pid, err)
		}
		if err := pause(ctx, fd, slice); err != nil {
			return fmt.Errorf("process: wait for %d: %w", id.Pid, err)
		}
	}
	return nil
}

// pause returns after d, when ctx ends, or (fd not -1) when fd is readable.
func pause(ctx context.Context, fd int, d time.Duration) error {
	if fd < 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		return nil
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(d.Milliseconds()))
	if err == unix.EINTR {
		err = nil
	}
	return err
}

// Subreaper makes this process inherit the orphans among its descendants (PR_SET_CHILD_SUBREAPER), which a Reaper
// has to reap then.
func Subreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("process: become subreaper: %w", os.NewSyscallError("prctl", err))
	}
	return nil
}

// isSubreaper tells whether orphans among our descendants land with us: as a subreaper, or as the first process.
func isSubreaper() bool {
	var on int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&on)), 0, 0, 0)
	return os.Getpid() == 1 || err == nil && on != 0
}
