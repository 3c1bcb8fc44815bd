package intercept

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/listener"
)

// kind is what a socket was made as.
type kind struct{ family, sort, protocol int }

// network is "tcp" or "udp"; "" for what is never taken over (SCTP, raw, …).
func (k kind) network() string {
	if k.family != afInet && k.family != afInet6 {
		return ""
	}
	switch {
	case k.sort == unix.SOCK_STREAM && (k.protocol == unix.IPPROTO_TCP || k.protocol == unix.IPPROTO_MPTCP):
		return "tcp"
	case k.sort == unix.SOCK_DGRAM && k.protocol == unix.IPPROTO_UDP:
		return "udp"
	}
	return ""
}

// fresh is a socket of this kind that nobody touched.
func (k kind) fresh() (*os.File, error) {
	fd, err := unix.Socket(k.family, k.sort|unix.SOCK_CLOEXEC, k.protocol)
	if err != nil {
		return nil, fmt.Errorf("intercept: fresh socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "fresh"), nil
}

// describe tells what the task's descriptor fd is, for a bind to a. An error
// means: not to be taken over.
func (r *run) describe(t *task, fd int, inode uint64, a address) (listener.Socket, error) {
	s := listener.Socket{Addr: a.addr, Zone: zone(a.scope)}
	dup, err := t.dup(fd)
	if err != nil {
		err = r.guess(t, fd, inode, a, &s)
		return s, err
	}
	defer dup.Close()
	err = control(dup, func(d int) error { return r.look(t, d, a, &s) })
	return s, err
}

// zone is the name of an interface, or its index when it has none here.
func zone(scope uint32) string {
	if scope == 0 {
		return ""
	}
	if i, err := net.InterfaceByIndex(int(scope)); err == nil {
		return i.Name
	}
	return strconv.FormatUint(uint64(scope), 10)
}

// look fills s from fd, our duplicate of the guest's socket.
func (r *run) look(t *task, fd int, a address, s *listener.Socket) error {
	var k kind
	for _, q := range []struct {
		name int
		into *int
	}{{unix.SO_DOMAIN, &k.family}, {unix.SO_TYPE, &k.sort}, {unix.SO_PROTOCOL, &k.protocol}} {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, q.name)
		if err != nil {
			return fmt.Errorf("intercept: kind of socket: %w", err)
		}
		*q.into = n
	}
	if err := fill(k, a, s); err != nil {
		return err
	}
	if bound(fd) {
		return because("it is bound already")
	}
	if err := r.sameNetwork(t, fd); err != nil {
		return err
	}
	if device, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX); err == nil && device != 0 {
		return because("it is bound to a network interface")
	}
	if filterLength(fd) > 0 {
		return because("it has a filter of its own")
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("intercept: flags of socket: %w", err)
	}
	s.NonBlocking = flags&unix.O_NONBLOCK != 0
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err == nil {
		s.ReusePort = n != 0
	}
	if k.family == afInet6 {
		n, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return fmt.Errorf("intercept: IPV6_V6ONLY: %w", err)
		}
		s.V6Only = n != 0
	}
	fresh, err := k.fresh()
	if err != nil {
		return err
	}
	defer fresh.Close()
	return control(fresh, func(f int) error {
		s.Options = changed(fd, f, k.sort == unix.SOCK_STREAM)
		return nil
	})
}

// guess fills s where descriptors cannot be duplicated: the kind is the name
// of the protocol, which every socket tells as an extended attribute, and two
// options were learned when they were set. Other options are not known.
func (r *run) guess(t *task, fd int, inode uint64, a address, s *listener.Socket) error {
	k, err := t.protocol(fd)
	if err != nil {
		return err
	}
	if err := fill(k, a, s); err != nil {
		return err
	}
	if err := r.sameNamespace(t); err != nil {
		return err
	}
	info, err := t.fdinfo(fd)
	if err != nil {
		return err
	}
	s.NonBlocking = info.flags&unix.O_NONBLOCK != 0
	l := r.learned.get(inode)
	s.ReusePort = l.reusePort == 1
	switch {
	case k.family != afInet6:
	case l.v6Only >= 0:
		s.V6Only = l.v6Only == 1
	default: // net.ipv6.bindv6only, asked of a socket that has it
		fresh, err := k.fresh()
		if err != nil {
			return err
		}
		defer fresh.Close()
		return control(fresh, func(f int) error {
			n, err := unix.GetsockoptInt(f, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			s.V6Only = n != 0
			return err
		})
	}
	return nil
}

// protocol tells the kind of a socket by its attribute.
func (t *task) protocol(fd int) (kind, error) {
	name := make([]byte, 64)
	n, err := unix.Getxattr(t.path("fd/"+strconv.Itoa(fd)), "system.sockprotoname", name)
	if err != nil {
		return kind{}, fmt.Errorf("intercept: protocol of socket: %w", err)
	}
	k, ok := kindNamed(string(name[:n]))
	if !ok {
		return kind{}, because("it is neither TCP nor UDP")
	}
	return k, nil
}

// kindNamed reads the kernel's name of a protocol (struct proto), which ends
// with a zero byte.
func kindNamed(name string) (kind, bool) {
	name = strings.TrimRight(name, "\x00")
	family := afInet
	if base, ok := strings.CutSuffix(name, "v6"); ok {
		family, name = afInet6, base
	}
	switch name {
	case "TCP":
		return kind{family, unix.SOCK_STREAM, unix.IPPROTO_TCP}, true
	case "MPTCP":
		return kind{family, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, true
	case "UDP":
		return kind{family, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, true
	}
	return kind{}, false
}

func fill(k kind, a address, s *listener.Socket) error {
	if s.Network = k.network(); s.Network == "" {
		return because("it is neither TCP nor UDP")
	}
	if k.family != a.family {
		return because("the address is of another family")
	}
	s.Family, s.Protocol = k.family, k.protocol
	return nil
}

// bound: a second bind(2) of a socket is an error, which the kernel shall give.
func bound(fd int) bool {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return sa.Port != 0
	case *unix.SockaddrInet6:
		return sa.Port != 0
	}
	return false
}

// sameNetwork: a lane made here means the same address only in our own
// network namespace. The cookie (Linux 5.14) is the socket's own namespace;
// before, the task's must do.
func (r *run) sameNetwork(t *task, fd int) error {
	if cookie, err := netnsCookie(fd); err == nil && r.cookie != 0 {
		if cookie != r.cookie {
			return because("it is in another network namespace")
		}
		return nil
	}
	return r.sameNamespace(t)
}

func (r *run) sameNamespace(t *task) error {
	var theirs, ours unix.Stat_t
	if err := unix.Stat(t.path("ns/net"), &theirs); err != nil {
		return fmt.Errorf("intercept: network namespace of task: %w", err)
	}
	if err := unix.Stat("/proc/self/ns/net", &ours); err != nil {
		return fmt.Errorf("intercept: network namespace: %w", err)
	}
	if theirs.Dev != ours.Dev || theirs.Ino != ours.Ino {
		return because("it is in another network namespace")
	}
	return nil
}

// netnsCookie is SO_NETNS_COOKIE (Linux 5.14).
func netnsCookie(fd int) (uint64, error) {
	b, err := getOption(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, unix.EINVAL
	}
	return binary.NativeEndian.Uint64(b), nil
}

// ownCookie is that of our own network namespace; 0: this kernel has none.
func ownCookie() uint64 {
	fresh, err := (kind{afInet, unix.SOCK_DGRAM, unix.IPPROTO_UDP}).fresh()
	if err != nil {
		return 0
	}
	defer fresh.Close()
	var c uint64
	_ = control(fresh, func(fd int) (err error) { // 0 says it
		c, err = netnsCookie(fd)
		return err
	})
	return c
}
