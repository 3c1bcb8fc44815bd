//go:build !goroutines

package proxy

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// direct is the address of a target whose Dial comes of At, once that was called.
type direct struct{ address atomic.Pointer[unix.Sockaddr] }

type directKey struct{}

var errDirect = errors.New("proxy: to be connected to without a goroutine")

// dialAt tells a loop the address; anybody else it connects.
func dialAt(ctx context.Context, network, address string) (net.Conn, error) {
	if d, ok := ctx.Value(directKey{}).(*direct); ok {
		if a := sockaddr(network, address); a != nil {
			d.address.Store(&a)
			return nil, errDirect
		}
	}
	return dialPlain(ctx, network, address)
}

// sockaddr gives nil for what only a resolver can tell.
func sockaddr(network, address string) unix.Sockaddr {
	switch network {
	case "unix":
		return &unix.SockaddrUnix{Name: address}
	case "tcp", "tcp4", "tcp6":
		a, err := parseEndpoint(address)
		if err != nil || a.Addr().Zone() != "" {
			return nil
		}
		if a.Addr().Is4() {
			return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
		}
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return nil
}

// beginDirect connects to address. The outcome is an event of the socket, but for errors at once.
func (s *session) beginDirect(t *target, address *unix.Sockaddr) *attempt {
	a := &attempt{target: t, until: s.loop.now + int64(s.p.config.Dial)}
	k, err := s.connect(*address)
	if err == nil {
		a.leg = s.newLeg(t, k)
		if err = s.watchLeg(a.leg); err != nil {
			a.leg.close()
		}
	}
	a.over, a.err = err != nil, err
	return a
}

func (s *session) connect(address unix.Sockaddr) (sock, error) {
	family, tcp := unix.AF_INET, true
	switch address.(type) {
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	case *unix.SockaddrUnix:
		family, tcp = unix.AF_UNIX, false
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sock{fd: -1}, os.NewSyscallError("socket", err)
	}
	k := newSock(fd, tcp)
	k.writable = false
	if tcp {
		err = s.p.tuneLeg(fd)
	}
	if err == nil {
		err = os.NewSyscallError("connect", connectSoon(fd, address))
	}
	if err != nil {
		k.close()
		return k, err
	}
	return k, nil
}

// connectSoon begins to connect. A Unix socket whose server's queue is full says EAGAIN, and is not
// connected later (connect(2)): that is an error.
func connectSoon(fd int, address unix.Sockaddr) error {
	if err := unix.Connect(fd, address); err != unix.EINPROGRESS && err != unix.EINTR {
		return err
	}
	return nil
}
