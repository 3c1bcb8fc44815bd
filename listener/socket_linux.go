package listener

import (
	"fmt"
	"math"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// ours are options that lanes have as we need them, whatever a guest set.
var ours = map[[2]int]bool{
	{unix.SOL_SOCKET, unix.SO_REUSEADDR}:             true,
	{unix.SOL_SOCKET, unix.SO_REUSEPORT}:             true,
	{unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF}: true,
	{unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF}: true,
	{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}:            true,
}

// setOptions sets what the kernel takes. What it does not take is no reason to keep a server down: some
// options can be read but not be set again.
func setOptions(fd int, options []Option) {
	for _, o := range options {
		if !ours[[2]int{o.Level, o.Name}] {
			_ = unix.SetsockoptString(fd, o.Level, o.Name, string(o.Value)) // see above
		}
	}
}

// open makes the socket of a lane of tcp or udp, all but bound. It is close-on-exec, and non-blocking
// until the caller knows better. It is never Multipath TCP: a program cannot be attached through one (EOPNOTSUPP).
func open(e endpoint, options []Option) (fd int, err error) {
	fd, err = unix.Socket(e.family, e.kind()|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, e.protocol())
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
			fd = -1
		}
	}()
	if e.family == unix.AF_INET6 {
		only := 0
		if e.v6only {
			only = 1
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fd, os.NewSyscallError("setsockopt", err)
		}
	}
	setOptions(fd, options)
	if e.network == "tcp" { // connections of former runs may still be in TIME_WAIT
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fd, os.NewSyscallError("setsockopt", err)
		}
	}
	return fd, nil
}

// bindFirst binds the first socket of an address without SO_REUSEPORT, so that it can join no stranger's group,
// and then makes it the first of a group.
func bindFirst(fd int, e endpoint) error {
	if e.network == "udp" {
		// A UDP socket that binds without SO_REUSEPORT has no group to attach a program to (EINVAL): probe with another.
		probe, err := open(e, nil)
		if err != nil {
			return err
		}
		err = unix.Bind(probe, e.sockaddr())
		unix.Close(probe)
		if err != nil {
			return os.NewSyscallError("bind", err)
		}
		return bindNext(fd, e)
	}
	if err := unix.Bind(fd, e.sockaddr()); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

// bindNext binds a further socket of an address.
func bindNext(fd int, e endpoint) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, e.sockaddr()))
}

// listenOn listens with a queue of backlog; 0 is as deep as net.core.somaxconn lets it be.
func listenOn(fd, backlog int) error {
	if backlog <= 0 {
		backlog = math.MaxInt32 // the kernel cuts it
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

// listens tells whether a socket is in TCP's state of listening.
func listens(fd int) bool {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && n != 0
}

// identify reads what a socket is known by.
func identify(fd int) (cookie, inode uint64, err error) {
	if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
		return 0, 0, os.NewSyscallError("getsockopt", err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil {
		return 0, 0, os.NewSyscallError("fstat", err)
	}
	return cookie, st.Ino, nil
}

// boundPort is the port that the kernel gave to a socket.
func boundPort(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return uint16(sa.Port), nil
	}
	return 0, fmt.Errorf("listener: a socket of another family: %T", sa)
}

// addrOf is the address in a sockaddr of IP.
func addrOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
