package notify

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// send writes one message, by hand: package net does not pass descriptors on a
// datagram socket that is connected, and has none that is not without a name.
// What is passed is lent to the kernel for as long as that takes: nested, so
// that none can be closed in between.
func send(path, state string, files []syscall.Conn) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(sendTime.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	var fds []int
	var lend func(rest []syscall.Conn) error
	lend = func(rest []syscall.Conn) (err error) {
		if len(rest) == 0 {
			return sendmsg(fd, path, state, fds)
		}
		lent := with(rest[0], func(fd int) {
			fds = append(fds, fd)
			err = lend(rest[1:])
		})
		return errors.Join(lent, err)
	}
	return lend(files)
}

func sendmsg(fd int, path, state string, fds []int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		// A path that begins with @ is a name in the abstract namespace, there as here.
		_, err := unix.SendmsgN(fd, []byte(state), oob, &unix.SockaddrUnix{Name: path}, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// takeFd moves descriptor n elsewhere and leaves /dev/null in its place, both
// closed to children.
func takeFd(n int) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, firstFd)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "parked")
	if err := leaveNull(n); err != nil {
		_ = f.Close() // the other one stays
		return nil, err
	}
	return f, nil
}

// leaveNull puts /dev/null in the place of descriptor n.
func leaveNull(n int) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close() // its duplicate stays
	var result error
	err = with(null, func(of int) { result = os.NewSyscallError("dup3", unix.Dup3(of, n, unix.O_CLOEXEC)) })
	if err != nil {
		return err
	}
	return result
}
