//go:build unix

package load

import (
	"net"
	"syscall"
	"time"
)

// ended looks, without waiting, whether the peer has closed an idle connection.
func ended(c net.Conn) bool {
	_ = c.SetDeadline(time.Time{}) // the last request's may be over, and is not what is asked here
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = err == nil && n == 0 || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
		return true
	})
	return gone || err != nil
}
