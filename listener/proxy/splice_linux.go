//go:build goroutines

package proxy

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsent says how many bytes the peer has not taken yet: not acknowledged (TCP), not read (Unix).
// 0 where that cannot be known (SIOCOUTQ: tcp(7), unix(7)).
func unsent(c net.Conn) int {
	s, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	if err := raw.Control(func(fd uintptr) {
		if v, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n = v
		}
	}); err != nil {
		return 0
	}
	return n
}

// splice moves up to n bytes inside the kernel; both ends are sockets. It returns at the read deadline
// of src with all that it took written.
func splice(dst, src net.Conn, n int64) (int64, bool, error) {
	t, ok := dst.(*net.TCPConn)
	if !ok {
		return 0, false, nil
	}
	switch src.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return 0, false, nil
	}
	moved, err := t.ReadFrom(&io.LimitedReader{R: src, N: n})
	return moved, true, err
}
