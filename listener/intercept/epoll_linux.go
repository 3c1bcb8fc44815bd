package intercept

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// setsMax bounds how many epoll sets are kept. A server has one for each thread at most, and what is asked of them is
// asked when it starts.
const setsMax = 256

// keep answers epoll_create(2) with a set that we keep a duplicate of, where the guest's own could not be had later.
// It tells whether the call is answered.
func (r *run) keep(n notification) bool {
	flags := uint32(n.args[0])
	if n.nr == sysEpollCreate { // its argument is a size
		if n.fd() <= 0 {
			return false
		}
		flags = 0
	}
	if flags&^unix.EPOLL_CLOEXEC != 0 {
		return false // to EINVAL
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	set := os.NewFile(uintptr(fd), "epoll")
	a := answer{}
	err = control(r.notify, func(notify int) error {
		return control(set, func(fd int) (err error) {
			a.value, err = give(notify, n.id, fd, flags&unix.EPOLL_CLOEXEC != 0)
			return err
		})
	})
	if err != nil { // the kernel makes one of its own, or says why not
		_ = set.Close() // as below
		return false
	}
	if r.reply(n, a) != nil { // it will ask again, or is gone
		_ = set.Close() // as below
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sets) == setsMax {
		_ = r.sets[0].Close() // nothing was written
		r.sets = append(r.sets[:0], r.sets[1:]...)
	}
	r.sets = append(r.sets, set)
	return true
}

// watch is one registration of the guest's socket in an epoll set, made
// before bind. The kernel drops it when the descriptor is replaced.
type watch struct {
	set *os.File // lent
	target
}

// watches are the registrations of the socket with this inode, under the numbers same: in the guest's sets, which are
// duplicated, or in those that were kept. close gives the duplicates back. An error means that one cannot be made
// again: its guest would never hear of a client.
func (r *run) watches(t *task, inode uint64, same, epolls []int) (list []watch, closeSets func(), err error) {
	var sets []*os.File
	closeSets = func() {
		for _, f := range sets {
			_ = f.Close() // nothing was written
		}
	}
	there := 0
	for _, e := range epolls {
		info, err := t.fdinfo(e)
		if err != nil {
			continue // closed meanwhile by another thread
		}
		found := info.registered(inode, same)
		there += len(found)
		if len(found) == 0 || t.noDup {
			continue
		}
		f, err := t.dup(e)
		if err != nil {
			return nil, closeSets, unreachable(err)
		}
		sets = append(sets, f)
		for _, w := range found {
			list = append(list, watch{f, w})
		}
	}
	if there == 0 || !t.noDup {
		return list, closeSets, nil
	}
	r.mu.Lock()
	kept := slices.Clone(r.sets)
	r.mu.Unlock()
	for _, f := range kept {
		info, err := ownFdinfo(f)
		if err != nil {
			continue // it was given up meanwhile
		}
		for _, w := range info.registered(inode, same) {
			list = append(list, watch{f, w})
		}
	}
	if len(list) < there {
		return nil, closeSets, unreachable(unix.EPERM)
	}
	return list, closeSets, nil
}

func unreachable(err error) error {
	return fmt.Errorf("intercept: the server has registered its socket with epoll already, and that set cannot be had (give --listen for it, or a container CAP_SYS_PTRACE): %w", err)
}

// registered are the registrations of the socket with this inode, under the numbers same.
func (i fdinfo) registered(inode uint64, same []int) []target {
	var out []target
	for _, w := range i.targets {
		if slices.Contains(same, w.fd) && (w.inode == 0 || w.inode == inode) {
			out = append(out, w)
		}
	}
	return out
}

// ownFdinfo is what is told of a descriptor of ours.
func ownFdinfo(f *os.File) (info fdinfo, err error) {
	err = control(f, func(fd int) (err error) {
		b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
		if err == nil {
			info, err = parseFdinfo(b)
		}
		return err
	})
	return info, err
}

// rewatch makes the registrations again for lane. It returns how many, and
// the first error.
//
// A registration's key is the open file and the number that the *caller* of
// epoll_ctl(2) has for it. So that the guest can change it later, ours must be
// the guest's number: on a thread with a descriptor table of its own.
func rewatch(lane *os.File, list []watch) (int, error) {
	if len(list) == 0 {
		return 0, nil
	}
	made, err := 0, error(nil)
	onThread(func() {
		if err = ownTable(); err != nil {
			err = fmt.Errorf("intercept: a descriptor table of our own: %w", err)
			return
		}
		// From here the table is this thread's, and gone with it.
		var errs []error
		for _, w := range list {
			if err := addWatch(w.set, lane, w.target); err != nil {
				errs = append(errs, err)
				continue
			}
			made++
		}
		err = errors.Join(errs...)
	})
	return made, err
}

// ownTable gives the thread a descriptor table of its own. Containers forbid unshare(2), but not close_range(2) (Linux
// 5.9), which does the same; there is nothing behind the end for it to close.
func ownTable() error {
	const end = 1 << 30
	err := unix.CloseRange(end, end, unix.CLOSE_RANGE_UNSHARE)
	if err != nil {
		err = unix.Unshare(unix.CLONE_FILES)
	}
	return err
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
