//go:build !goroutines

package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recv and send never wait, and so need not tell the scheduler that they might: an entry into a
// system call that the runtime knows of costs as much as a small message.

func recv(fd int32, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func send(fd int32, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// splice moves up to n bytes between a socket and a pipe, without waiting.
func splice(from, to int32, n int) (int, error) {
	for {
		m, err := unix.Splice(int(from), nil, int(to), nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(max(m, 0)), err
		}
	}
}

// accept4 takes one client, without waiting.
func accept4(fd int) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), errno
}

// epollWait waits for at most a few ms without telling the scheduler: it keeps its processor, and comes
// back at once when an event does. The scheduler can still stop it, by a signal (EINTR).
func epollWait(epoll int, events []unix.EpollEvent, ms int) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(ms), 0, 0)
	return int(n), errno
}
