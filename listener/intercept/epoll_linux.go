package intercept

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// watch is one registration of the guest's socket in an epoll set, made
// before bind. The kernel drops it when the descriptor is replaced.
type watch struct {
	epoll int // the guest's number of the set
	target
}

// watches are the registrations of the socket with this inode, under the
// numbers same, in the sets of the task.
func (t *task) watches(inode uint64, same, epolls []int) []watch {
	var out []watch
	for _, e := range epolls {
		info, err := t.fdinfo(e)
		if err != nil {
			continue // closed meanwhile by another thread
		}
		for _, w := range info.targets {
			if slices.Contains(same, w.fd) && (w.inode == 0 || w.inode == inode) {
				out = append(out, watch{epoll: e, target: w})
			}
		}
	}
	return out
}

// rewatch makes the registrations again for lane. It returns how many, and
// the first error.
//
// A registration's key is the open file and the number that the *caller* of
// epoll_ctl(2) has for it. So that the guest can change it later, ours must be
// the guest's number: on a thread with a descriptor table of its own.
func (t *task) rewatch(lane *os.File, list []watch) (int, error) {
	if len(list) == 0 {
		return 0, nil
	}
	sets := make(map[int]*os.File)
	defer func() {
		for _, f := range sets {
			_ = f.Close() // nothing was written
		}
	}()
	for _, w := range list {
		if sets[w.epoll] != nil {
			continue
		}
		f, err := t.dup(w.epoll)
		if err != nil {
			return 0, err
		}
		sets[w.epoll] = f
	}
	made, err := 0, error(nil)
	onThread(func() {
		if err = unix.Unshare(unix.CLONE_FILES); err != nil {
			err = fmt.Errorf("intercept: unshare descriptors: %w", err)
			return
		}
		// From here the table is this thread's, and gone with it.
		var errs []error
		for _, w := range list {
			if err := addWatch(sets[w.epoll], lane, w.target); err != nil {
				errs = append(errs, err)
				continue
			}
			made++
		}
		err = errors.Join(errs...)
	})
	return made, err
}

// addWatch registers lane under the number w.fd. On a table of our own only:
// whatever has that number is closed, even if it is set or lane themselves.
func addWatch(set, lane *os.File, w target) error {
	return control(set, func(e int) error {
		return control(lane, func(l int) error {
			// Duplicates that are out of the way of w.fd.
			epoll, err := unix.FcntlInt(uintptr(e), unix.F_DUPFD_CLOEXEC, w.fd+1)
			if err != nil {
				return fmt.Errorf("intercept: duplicate epoll set: %w", err)
			}
			defer unix.Close(epoll)
			if l != w.fd {
				// The numbers of set and lane must stay good for the next
				// registration: what is in the way is kept aside.
				aside, err := unix.FcntlInt(uintptr(w.fd), unix.F_DUPFD_CLOEXEC, w.fd+1)
				if err == nil {
					defer func() {
						_ = unix.Dup3(aside, w.fd, unix.O_CLOEXEC) // it fitted before
						_ = unix.Close(aside)
					}()
				} else {
					defer unix.Close(w.fd)
				}
				if err := unix.Dup3(l, w.fd, unix.O_CLOEXEC); err != nil {
					return fmt.Errorf("intercept: number %d for a lane: %w", w.fd, err)
				}
			}
			event := unix.EpollEvent{Events: w.events, Fd: int32(w.data), Pad: int32(w.data >> 32)}
			if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, w.fd, &event); err != nil {
				return fmt.Errorf("intercept: register lane with epoll: %w", err)
			}
			return nil
		})
	})
}
