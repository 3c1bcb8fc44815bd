package listener

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// found is a socket that somebody else's process serves on, and a duplicate of it.
type found struct {
	fd            int
	at            endpoint
	cookie, inode uint64
	owner         uint32 // of the socket: who may join its group
	blocking      bool
	mptcp         bool
}

func (s *system) take(gen int, pidfds []*os.File) error {
	all, err := socketsOf(pidfds)
	defer func() {
		for _, f := range all {
			if f.fd >= 0 {
				unix.Close(f.fd)
			}
		}
	}()
	if err != nil {
		return fmt.Errorf("listener: take sockets: %w", err)
	}
	if len(all) == 0 {
		return ErrNoLane
	}
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	if len(s.list) > 0 {
		return errors.New("listener: take sockets: the set has claims already")
	}
	for i := range all {
		at := all[i].at
		if all[i].fd < 0 {
			continue
		}
		if err := s.takeClaimLocked(at, gen, all[i:]); err != nil {
			return fmt.Errorf("listener: take %s: %w", at, err)
		}
	}
	s.kickLocked()
	return nil
}

// takeClaimLocked makes a claim of those of the sockets that are bound to at, and takes ownership of them.
func (s *system) takeClaimLocked(at endpoint, gen int, all []found) error {
	a := Address{Network: at.network, Host: at.addr.Addr().String(), Port: int(at.addr.Port()), Path: at.path}
	c := &Claim{address: a, claimSystem: claimSystem{set: s, at: at, serving: gen, adopted: true}}
	if err := s.startLocked(); err != nil {
		return err
	}
	if at.onPath() {
		var err error
		if c.dir, err = openDirectory(at.path); err != nil {
			return err
		}
		s.watchPathLocked(c)
	}
	s.list = append(s.list, c)
	for i := range all {
		f := &all[i]
		if f.fd < 0 || f.at != at {
			continue
		}
		l := &Lane{claim: c, laneSystem: laneSystem{
			set: s, gen: gen, fd: f.fd, cookie: f.cookie, inode: f.inode, state: laneMember,
			steered: true, handed: true, blocking: f.blocking, mptcp: f.mptcp,
		}}
		f.fd = -1
		c.owner = &f.owner
		c.all, c.members = append(c.all, l), append(c.members, l)
		if at.onPath() {
			// A name of its own, by which it can be published again.
			l.name = c.dir.fresh()
			if err := unix.Linkat(c.dir.fd, c.dir.base, c.dir.fd, l.name, 0); err != nil {
				return os.NewSyscallError("linkat", err)
			}
			continue
		}
		// The server bound it without, as a rule: the kernel looks at the option when another one joins.
		if err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if at.onPath() {
		return nil
	}
	// One of ours makes a group of it, through which the program is attached. What strays into it before that is relayed.
	// It goes to the first of our generations.
	l, err := s.newLaneLocked(c, 0, nil, false, true)
	if err != nil {
		return err
	}
	l.beside, l.blocking = true, true
	if err := s.joinLocked(l); err != nil {
		s.destroyLocked(l)
		return err
	}
	return s.attachLocked(c)
}

// socketsOf duplicates the sockets that the processes serve on, in the order in which they were made. The
// caller closes them, with an error too.
func socketsOf(pidfds []*os.File) ([]found, error) {
	var all []found
	seen := map[string]bool{}
	for _, f := range pidfds {
		raw, err := f.SyscallConn()
		if err != nil {
			return all, err
		}
		var got []found
		var lookErr error
		if err := raw.Control(func(h uintptr) { got, lookErr = socketsIn(int(h), seen) }); err != nil {
			return all, err
		}
		all = append(all, got...)
		if lookErr != nil {
			return all, lookErr
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { // counted by the kernel
		switch {
		case a.cookie < b.cookie:
			return -1
		case a.cookie > b.cookie:
			return 1
		}
		return 0
	})
	return all, nil
}

// socketsIn looks at one process.
func socketsIn(pidfd int, seen map[string]bool) ([]found, error) {
	dir, err := descriptorsOf(pidfd)
	var entries []os.DirEntry
	if err == nil {
		entries, err = os.ReadDir(dir)
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, nil // it has ended
	}
	if err != nil {
		return nil, err
	}
	var all []found
	for _, e := range entries {
		link, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || !strings.HasPrefix(link, "socket:") || seen[link] {
			continue
		}
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, n, 0) // close-on-exec
		if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH) {
			continue // closed meanwhile, or ended
		}
		if err != nil {
			return all, os.NewSyscallError("pidfd_getfd", err)
		}
		seen[link] = true
		if f, ok := serves(fd); ok {
			all = append(all, f)
			continue
		}
		unix.Close(fd)
	}
	return all, nil
}

// descriptorsOf is the directory with the descriptors of a pidfd's process.
func descriptorsOf(pidfd int) (string, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(info), "\nPid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 0 {
		return "", unix.ESRCH
	}
	return fmt.Sprintf("/proc/%d/fd", pid), nil
}

// serves describes a socket if clients reach a server by it: it listens, or is an unconnected one of UDP on a port that
// was chosen.
func serves(fd int) (found, bool) {
	f := found{fd: fd}
	option := func(name int) int {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		if err != nil {
			return -1
		}
		return n
	}
	f.at.family = option(unix.SO_DOMAIN)
	local, err := unix.Getsockname(fd)
	if err != nil {
		return f, false
	}
	switch kind := option(unix.SO_TYPE); {
	case kind == unix.SOCK_STREAM && option(unix.SO_ACCEPTCONN) == 1:
		f.at.network = "tcp"
	case kind == unix.SOCK_DGRAM:
		if _, err := unix.Getpeername(fd); err == nil {
			return f, false
		}
		f.at.network = "udp"
	default:
		return f, false
	}
	f.mptcp = option(unix.SO_PROTOCOL) == unix.IPPROTO_MPTCP
	switch a := local.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
		f.at.addr = addrOf(local)
		if six, ok := a.(*unix.SockaddrInet6); ok {
			f.at.scope = six.ZoneId
			n, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			f.at.v6only = err == nil && n != 0
		}
		f.at = f.at.normal()
		if f.at.addr.Port() == 0 || f.at.network == "udp" && passing(f.at.addr) {
			return f, false
		}
	case *unix.SockaddrUnix:
		if f.at.network != "tcp" || !filepath.IsAbs(a.Name) {
			return f, false
		}
		f.at = endpoint{network: "unix", family: unix.AF_UNIX, path: filepath.Clean(a.Name)}
	default:
		return f, false
	}
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || unix.Fstat(fd, &st) != nil {
		return f, false
	}
	f.owner, f.blocking = st.Uid, flags&unix.O_NONBLOCK == 0
	f.cookie, f.inode, err = identify(fd)
	return f, err == nil
}

// passing tells whether a port is one of those that the system gives to clients: a socket of UDP on it
// asks somebody something.
func passing(a netip.AddrPort) bool {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return false
	}
	var low, high uint16
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil {
		return false
	}
	return a.Port() >= low && a.Port() <= high
}

// own makes a socket that is to join a group the user's who made the first one: the kernel joins no others.
func (c *claimSystem) own(fd int) error {
	if c.owner == nil || *c.owner == uint32(os.Geteuid()) {
		return nil
	}
	return os.NewSyscallError("fchown", unix.Fchown(fd, int(*c.owner), -1))
}
