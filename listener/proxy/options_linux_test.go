//go:build !goroutines

package proxy

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSocketOptions(t *testing.T) {
	p := started(t, Config{UserTimeout: 1500 * time.Millisecond, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 77 * time.Second}})
	s := newServer(t, 1, lines)
	b := s.backend()
	p.Serve(b)
	c := connect(t, p)
	ask(t, c, "1")
	p.each(func(x *session) {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, fd := range []int32{x.client.fd, x.leg.fd} {
			user, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
			idle, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
			if user != 1500 || idle != 77 {
				t.Errorf("user timeout and idle are %d and %d", user, idle)
			}
		}
	})
}
