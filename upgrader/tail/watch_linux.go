package tail

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// notifier is the watcher that inotify(7) wakes.
type notifier struct {
	file *os.File
	wake chan struct{}
	join sync.WaitGroup
}

// watch uses inotify, and looks from time to time where a user has no more
// instances left (128 by default) or the system has none.
func watch(f *os.File) watcher {
	n, err := newNotifier(f)
	if err != nil {
		return newPoller(every)
	}
	return n
}

func newNotifier(f *os.File) (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	n := &notifier{file: os.NewFile(uintptr(fd), "inotify"), wake: make(chan struct{}, 1)}
	raw, err := f.SyscallConn()
	if err == nil {
		var result error
		err = raw.Control(func(of uintptr) {
			// The file may have no name any more; its link in /proc leads there.
			_, result = unix.InotifyAddWatch(fd, fmt.Sprintf("/proc/self/fd/%d", of), unix.IN_MODIFY)
		})
		if err == nil && result != nil {
			err = os.NewSyscallError("inotify_add_watch", result)
		}
	}
	if err != nil {
		_ = n.file.Close() // watches nothing
		return nil, err
	}
	n.join.Go(n.run)
	return n, nil
}

func (n *notifier) run() {
	buf := make([]byte, 4096)
	for {
		if _, err := n.file.Read(buf); err != nil {
			return // closed
		}
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

func (n *notifier) changed() <-chan struct{} { return n.wake }

func (n *notifier) close() {
	_ = n.file.Close() // ends run's Read
	n.join.Wait()
}
