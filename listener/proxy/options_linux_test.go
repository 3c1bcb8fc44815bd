package proxy

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSocketOptions(t *testing.T) {
	got := make(chan [2]int, 1)
	p := started(t, Config{UserTimeout: 1500 * time.Millisecond, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 77 * time.Second}})
	s := newServer(t, 1, lines)
	b := s.backend()
	p.Serve(b)
	c := connect(t, p)
	ask(t, c, "1")
	p.each(func(x *session) {
		for _, conn := range []net.Conn{x.client.Conn, x.leg.Conn} {
			raw, err := conn.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) {
				user, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
				idle, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
				got <- [2]int{user, idle}
			})
			if v := <-got; v != [2]int{1500, 77} {
				t.Errorf("user timeout and idle are %v", v)
			}
		}
	})
}
