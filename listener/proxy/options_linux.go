package proxy

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const canUserTimeout = true

// setUserTimeout bounds how long sent bytes may stay unacknowledged (tcp(7), TCP_USER_TIMEOUT).
func setUserTimeout(c *net.TCPConn, d time.Duration) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	ms := max(int(d.Milliseconds()), 1)
	var cause error
	if err := raw.Control(func(fd uintptr) {
		cause = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, ms)
	}); err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt TCP_USER_TIMEOUT", cause)
}
