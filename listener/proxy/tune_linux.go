//go:build !goroutines

package proxy

import (
	"cmp"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// clientKeepAlive is that of the net package: what clients have unless Config says otherwise.
func clientKeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9}
}

// tuneClient sets what Config asks of clients' connections, on one of them or on their listener: Linux
// gives a TCP connection what its listener has (sk_clone of the kernel).
func (p *Proxy) tuneClient(fd int) error {
	keep := p.config.KeepAlive
	if keep == (net.KeepAliveConfig{}) {
		keep = clientKeepAlive()
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt TCP_NODELAY", err)
	}
	return p.tuneSocket(fd, keep)
}

// tuneLeg sets what Config asks of connections to servers; TCP_NODELAY is sock.prompt's.
func (p *Proxy) tuneLeg(fd int) error { return p.tuneSocket(fd, p.config.KeepAlive) }

func (p *Proxy) tuneSocket(fd int, keep net.KeepAliveConfig) error {
	var failed error
	set := func(level, option, value int, name string) {
		if err := unix.SetsockoptInt(fd, level, option, value); err != nil && failed == nil {
			failed = os.NewSyscallError("setsockopt "+name, err)
		}
	}
	if keep.Enable {
		set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "SO_KEEPALIVE")
		usual := clientKeepAlive() // 0 asks for it, less for the system's
		if d := cmp.Or(keep.Idle, usual.Idle); d > 0 {
			set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(d), "TCP_KEEPIDLE")
		}
		if d := cmp.Or(keep.Interval, usual.Interval); d > 0 {
			set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(d), "TCP_KEEPINTVL")
		}
		if n := cmp.Or(keep.Count, usual.Count); n > 0 {
			set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, n, "TCP_KEEPCNT")
		}
	} else if keep != (net.KeepAliveConfig{}) {
		set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0, "SO_KEEPALIVE")
	}
	if d := p.config.UserTimeout; d > 0 {
		set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, max(int(d.Milliseconds()), 1), "TCP_USER_TIMEOUT")
	}
	return failed
}

// seconds, no less than one, as the kernel counts.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// isTCP is false for Multipath TCP, and for what is no TCP at all.
func isTCP(fd int) bool {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && protocol == unix.IPPROTO_TCP
}

// unsent says how many bytes the peer has not taken yet: not acknowledged (TCP), not read (Unix).
// 0 where that cannot be known (SIOCOUTQ: tcp(7), unix(7)).
func (k *sock) unsent() int {
	n, err := unix.IoctlGetInt(int(k.fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}
