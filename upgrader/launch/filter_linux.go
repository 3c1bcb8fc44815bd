package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rightsMessage carries the listener to the parent.
type rightsMessage struct {
	header  unix.Msghdr
	data    unix.Iovec
	frame   byte
	control []byte // one descriptor
}

func newRights() *rightsMessage {
	m := &rightsMessage{frame: frameNotify, control: unix.UnixRights(0)}
	m.data = unix.Iovec{Base: &m.frame}
	m.data.SetLen(1)
	m.header = unix.Msghdr{Iov: &m.data, Control: &m.control[0]}
	m.header.SetIovlen(1)
	m.header.SetControllen(len(m.control))
	return m
}

// filter puts the program on this thread, for good, and sends its listener to the parent. It runs before the user
// changes: with CAP_SYS_ADMIN there is no need for no_new_privs. What comes after it are none of the calls that a
// filter is made for.
//
// SPEC_ALLOW: before Linux 5.16 a filter turns a costly speculation guard on. WAIT_KILLABLE_RECV (5.19): once a
// notification was received only a deadly signal interrupts the caller. EACCES without CAP_SYS_ADMIN: then, and
// only then, no_new_privs is set, which disables setuid programs below. EBUSY: an outer listener exists.
//
//go:nosplit
//go:norace
//go:nocheckptr
func filter(p *plan) syscall.Errno {
	p.failed.step = atFilter
	if p.word.instructions == 0 {
		return 0
	}
	p.program.Len = uint16(p.word.instructions)
	flags := unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW |
		unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | uintptr(p.word.flags)
	privileged := true
	for {
		fd, e := call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&p.program)))
		switch {
		case e == 0:
			*(*int32)(unsafe.Pointer(&p.rights.control[unix.SizeofCmsghdr])) = int32(fd)
			_, e = call(unix.SYS_SENDMSG, uintptr(p.own), uintptr(unsafe.Pointer(&p.rights.header)), unix.MSG_NOSIGNAL)
			call(unix.SYS_CLOSE, fd, 0, 0)
			return e
		case e == unix.EACCES && privileged:
			privileged = false
			if _, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
				return e
			}
		case e == unix.EINVAL && flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0:
			flags &^= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		default:
			return e
		}
	}
}
