//go:build !goroutines

package proxy

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// endpoint is where a target's server is, as Dial said.
type endpoint struct {
	address unix.Sockaddr
	serves  func() bool
}

func (e *endpoint) left() bool { return e.serves != nil && !e.serves() }

type directKey struct{}

var errDirect = errors.New("proxy: to be connected to without a goroutine")

// dialDirect tells a loop the address, if it was a loop that asked.
func dialDirect(ctx context.Context, network, address string, serves func() bool) error {
	result, ok := ctx.Value(directKey{}).(*dialResult)
	if !ok {
		return nil
	}
	a := sockaddr(network, address)
	if a == nil {
		return nil
	}
	result.endpoint = &endpoint{address: a, serves: serves}
	return errDirect
}

// sockaddr gives nil for what only a resolver can tell.
func sockaddr(network, address string) unix.Sockaddr {
	switch network {
	case "unix":
		return &unix.SockaddrUnix{Name: address}
	case "tcp", "tcp4", "tcp6":
		a, err := netip.ParseAddrPort(address)
		ip := a.Addr().Unmap()
		switch {
		case err != nil || ip.Zone() != "":
			return nil
		case ip.Is4():
			return &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}
		}
		return &unix.SockaddrInet6{Addr: ip.As16(), Port: int(a.Port())}
	}
	return nil
}

// beginDirect connects to e. The outcome is an event of the socket, but for errors at once.
func (s *session) beginDirect(t *target, e *endpoint) *attempt {
	a := &attempt{target: t, endpoint: e, until: s.loop.now + int64(s.p.config.Dial)}
	k, err := s.connect(e.address)
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
	fd, err := socket(family)
	if err != nil {
		return sock{fd: -1}, os.NewSyscallError("socket", err)
	}
	k := newSock(fd, tcp)
	k.writable = false
	if tcp {
		k.nagle = true
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
	if err := connectSocket(fd, address); err != unix.EINPROGRESS && err != unix.EINTR {
		return err
	}
	return nil
}

// connected checks a connection that was made: it is to the generation that is meant, and not to itself,
// which happens to who connects to a port of the ephemeral range that nobody listens on.
func (e *endpoint) connected(fd int) error {
	if e.serves != nil {
		if !e.serves() {
			return errLeft
		}
		return nil // somebody has bound the port, and so the kernel has not given it to us (ip(7))
	}
	here, err := syscall.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	itself := false
	switch there := e.address.(type) {
	case *unix.SockaddrInet4:
		h, ok := here.(*syscall.SockaddrInet4)
		itself = ok && h.Port == there.Port && h.Addr == there.Addr
	case *unix.SockaddrInet6:
		h, ok := here.(*syscall.SockaddrInet6)
		itself = ok && h.Port == there.Port && h.Addr == there.Addr
	}
	if itself {
		return os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	return nil
}
