//go:build unix && (!linux || goroutines)

package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unread reports whether something lies in the socket that was not read.
func unread(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	var one [1]byte
	n := 0
	_ = raw.Control(func(fd uintptr) { // closed: nothing lies there
		n, _, _ = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT) // broken: its reader sees that
	})
	return n > 0
}
