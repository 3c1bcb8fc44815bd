package notify

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// hangups waits for the other ends of descriptors to go, with an epoll of its
// own that the runtime's poller waits for: it costs no thread.
type hangups struct {
	file *os.File
	raw  syscall.RawConn
	join sync.WaitGroup
}

func newHangups(gone func(id int32)) (*hangups, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// So that os.NewFile gives it to the poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	h := &hangups{file: os.NewFile(uintptr(fd), "epoll")}
	if h.raw, err = h.file.SyscallConn(); err != nil {
		_ = h.file.Close()
		return nil, err
	}
	h.join.Go(func() { h.run(gone) })
	return h, nil
}

func (h *hangups) run(gone func(id int32)) {
	events := make([]unix.EpollEvent, 64)
	for {
		var n int
		var failed error
		err := h.raw.Read(func(fd uintptr) bool {
			n, failed = unix.EpollWait(int(fd), events, 0)
			if errors.Is(failed, unix.EINTR) {
				n, failed = 0, nil
			}
			return n > 0 || failed != nil
		})
		if err != nil || failed != nil {
			return // closed
		}
		for _, e := range events[:n] {
			gone(e.Fd)
		}
	}
}

// add watches f, and reports whether it can be: files and memfds cannot
// (EPERM), and have no other end.
func (h *hangups) add(f *os.File, id int32) (bool, error) {
	err := h.control(unix.EPOLL_CTL_ADD, f, &unix.EpollEvent{Fd: id}) // HUP and ERR are always told
	if errors.Is(err, unix.EPERM) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("epoll_ctl", err)
}

func (h *hangups) remove(f *os.File) {
	_ = h.control(unix.EPOLL_CTL_DEL, f, nil) // an error: it is not there
}

func (h *hangups) control(op int, f *os.File, event *unix.EpollEvent) error {
	var result error
	err := with(f, func(fd int) {
		if err := h.raw.Control(func(ep uintptr) { result = unix.EpollCtl(int(ep), op, fd, event) }); err != nil {
			result = err
		}
	})
	if err != nil {
		return err
	}
	return result
}

func (h *hangups) close() error {
	err := h.file.Close()
	h.join.Wait()
	return err
}

// with lends the number of f's descriptor. Fd() is not for this: it may change
// the mode of a description that others share.
func with(f syscall.Conn, do func(fd int)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { do(int(fd)) })
}

// Inode tells what f is: fstat(2).
func Inode(f syscall.Conn) (dev, ino uint64, err error) {
	var st unix.Stat_t
	var result error
	if err := with(f, func(fd int) { result = os.NewSyscallError("fstat", unix.Fstat(fd, &st)) }); err != nil {
		return 0, 0, err
	}
	return uint64(st.Dev), st.Ino, result
}

// duplicate gives another descriptor of the same description.
func duplicate(f syscall.Conn) (*os.File, error) {
	var fd int
	var result error
	err := with(f, func(of int) { fd, result = unix.FcntlInt(uintptr(of), unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	if result != nil {
		return nil, os.NewSyscallError("fcntl", result)
	}
	return os.NewFile(uintptr(fd), "parked"), nil
}

// dupfdQuery is F_DUPFD_QUERY (Linux 6.10): are two descriptors one
// description?
const dupfdQuery = 1024 + 3

// sameDescription reports whether a and b are one open file description: by
// asking the kernel where it answers, else for sockets and pipes, which have
// an inode for each end, by their inode.
func sameDescription(a, b *os.File) (same bool) {
	_ = with(a, func(fa int) {
		_ = with(b, func(fb int) {
			if n, err := unix.FcntlInt(uintptr(fa), dupfdQuery, fb); err == nil {
				same = n == 1
				return
			}
			const kcmpFile = 0
			pid := uintptr(os.Getpid())
			n, _, errno := unix.Syscall6(unix.SYS_KCMP, pid, pid, kcmpFile, uintptr(fa), uintptr(fb), 0)
			if errno == 0 {
				same = n == 0
				return
			}
			var sa, sb unix.Stat_t
			if unix.Fstat(fa, &sa) == nil && unix.Fstat(fb, &sb) == nil {
				same = sa.Mode&unix.S_IFMT == unix.S_IFSOCK && sa.Dev == sb.Dev && sa.Ino == sb.Ino
			}
		})
	})
	return same
}
