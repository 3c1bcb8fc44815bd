package watch

import "golang.org/x/sys/unix"

// beingWritten reports whether somebody has the file open for writing, as far
// as that may be known: no read lease is given on such a file (fcntl(2),
// F_SETLEASE; of files of others it needs CAP_LEASE).
func beingWritten(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// A writer that comes while the lease is there makes the kernel send a
	// signal, SIGIO if no other is chosen: one that nobody minds.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(unix.SIGURG)); err != nil {
		return false
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) // closing does it too
	}
	return err == unix.EAGAIN
}
