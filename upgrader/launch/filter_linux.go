package launch

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// installFilter puts the program on this thread, for good, and returns its listener (born closed on exec).
//
// SPEC_ALLOW: before Linux 5.16 a filter turns a costly speculation guard on. WAIT_KILLABLE_RECV (5.19): once a
// notification was received only a deadly signal interrupts the caller. EACCES without CAP_SYS_ADMIN: then, and
// only then, no_new_privs is set, which disables setuid programs below. EBUSY: an outer listener exists.
func installFilter(program []Instruction, extra int) (listener int, err error) {
	if len(program) > unix.BPF_MAXINSNS {
		return -1, unix.EINVAL
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	flags := unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW |
		unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | extra
	privileged := true
	for {
		fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&prog)))
		runtime.KeepAlive(program)
		switch {
		case errno == 0:
			return int(fd), nil
		case errno == unix.EACCES && privileged:
			privileged = false
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return -1, err
			}
		case errno == unix.EINVAL && flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0:
			flags &^= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		default:
			return -1, errno
		}
	}
}
