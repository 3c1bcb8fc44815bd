package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/windows"
)

type socket = *rawSocket

// rawSocket is one which the net package has never seen: it would bind its completion port to it, and a socket
// has one such at most, whoever has duplicates of it.
type rawSocket struct {
	mu       sync.Mutex
	handle   windows.Handle // InvalidHandle: closed
	bound    netip.AddrPort // with the port that it got
	refusing bool           // it is bound, and does not listen
}

// errNoFile: a descriptor of Windows is not passed as a file.
var errNoFile = fmt.Errorf("listener: a lane as a file: %w on Windows: see Lane.Inherit", errors.ErrUnsupported)

func (l *Lane) dup() (*os.File, error) { return nil, errNoFile }

// Inherit gives a duplicate of the lane's socket that a child can inherit, under the handle's own number. The caller
// calls release once the child runs.
func (l *Lane) Inherit() (handle uintptr, release func(), err error) {
	s := l.claim.socket
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle == windows.InvalidHandle {
		return 0, nil, ErrClosed
	}
	self := windows.CurrentProcess()
	var h windows.Handle
	if err := windows.DuplicateHandle(self, s.handle, self, &h, 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
		return 0, nil, fmt.Errorf("listener: duplicate lane: DuplicateHandle: %w", err)
	}
	return uintptr(h), func() { _ = windows.CloseHandle(h) }, nil // the socket has another handle
}

// ProtocolInfo is what another process, which runs, makes the lane's socket of with WSASocket (WSADuplicateSocket).
func (l *Lane) ProtocolInfo(pid int) (*windows.WSAProtocolInfo, error) {
	s := l.claim.socket
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle == windows.InvalidHandle {
		return nil, ErrClosed
	}
	var info windows.WSAProtocolInfo
	if err := windows.WSADuplicateSocket(s.handle, uint32(pid), &info); err != nil {
		return nil, fmt.Errorf("listener: duplicate lane: WSADuplicateSocket: %w", err)
	}
	return &info, nil
}

func (c *Claim) open(ctx context.Context) error {
	a := c.address
	c.net = a.Network[:min(3, len(a.Network))]
	if c.net != "tcp" && c.net != "udp" {
		return fmt.Errorf("unix sockets: %w on Windows", errors.ErrUnsupported)
	}
	var data windows.WSAData
	if err := windows.WSAStartup(0x202, &data); err != nil {
		return fmt.Errorf("WSAStartup: %w", err)
	}
	addresses, err := resolve(ctx, a)
	if err != nil {
		return err
	}
	s := &rawSocket{}
	for _, s.bound = range addresses { // of IPv6 and IPv4, the first that this host has
		if s.handle, err = c.bind(s.bound, a); err == nil || !errors.Is(err, windows.WSAEAFNOSUPPORT) && !errors.Is(err, windows.WSAEADDRNOTAVAIL) {
			break
		}
	}
	if err != nil {
		if errors.Is(err, windows.WSAEADDRINUSE) || errors.Is(err, windows.WSAEACCES) {
			return &InUseError{Addr: a.String(), Err: err}
		}
		return err
	}
	if err := errors.Join(c.listen(s.handle), s.find()); err != nil {
		return errors.Join(err, s.close())
	}
	c.setPort(s.bound.String())
	c.socket, c.close = s, s.close
	return nil
}

// resolve gives what to bind, the preferred one first.
func resolve(ctx context.Context, a Address) ([]netip.AddrPort, error) {
	port := uint16(a.Port)
	v4, v6 := netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.AddrPortFrom(netip.IPv6Unspecified(), port)
	family := a.Network[min(3, len(a.Network)):]
	if a.Host == "" {
		switch family {
		case "4":
			return []netip.AddrPort{v4}, nil
		case "6":
			return []netip.AddrPort{v6}, nil
		}
		return []netip.AddrPort{v6, v4}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip"+family, a.Host)
	if err != nil {
		return nil, err
	}
	var all []netip.AddrPort
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return all, nil
}

// bind makes the socket. SO_EXCLUSIVEADDRUSE: nobody else may take the address beside us.
func (c *Claim) bind(to netip.AddrPort, a Address) (_ windows.Handle, err error) {
	kind, protocol, family := int32(windows.SOCK_STREAM), int32(windows.IPPROTO_TCP), int32(windows.AF_INET6)
	if c.net == "udp" {
		kind, protocol = windows.SOCK_DGRAM, windows.IPPROTO_UDP
	}
	var sa windows.Sockaddr = &windows.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		family, sa = windows.AF_INET, &windows.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	h, err := windows.WSASocket(family, kind, protocol, nil, 0, windows.WSA_FLAG_OVERLAPPED|windows.WSA_FLAG_NO_HANDLE_INHERIT)
	if err != nil {
		return 0, fmt.Errorf("WSASocket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = windows.Closesocket(h) // it was not used
		}
	}()
	if err := windows.SetsockoptInt(h, windows.SOL_SOCKET, soExclusiveAddrUse, 1); err != nil {
		return 0, fmt.Errorf("SO_EXCLUSIVEADDRUSE: %w", err)
	}
	if family == windows.AF_INET6 {
		only := 1
		if a.Host == "" && !(a.Network == "tcp6" || a.Network == "udp6") {
			only = 0
		}
		if err := windows.SetsockoptInt(h, windows.IPPROTO_IPV6, windows.IPV6_V6ONLY, only); err != nil {
			return 0, fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
	}
	if err := windows.Bind(h, sa); err != nil {
		return 0, fmt.Errorf("bind: %w", err)
	}
	return h, nil
}

// listen lets clients connect.
func (c *Claim) listen(h windows.Handle) error {
	if c.net != "tcp" {
		return nil
	}
	backlog := c.address.Backlog
	if backlog == 0 {
		backlog = windows.SOMAXCONN
	}
	return os.NewSyscallError("listen", windows.Listen(h, backlog))
}

// find notes which port was bound.
func (s *rawSocket) find() error {
	bound, err := windows.Getsockname(s.handle)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch b := bound.(type) {
	case *windows.SockaddrInet4:
		s.bound = netip.AddrPortFrom(s.bound.Addr(), uint16(b.Port))
	case *windows.SockaddrInet6:
		s.bound = netip.AddrPortFrom(s.bound.Addr(), uint16(b.Port))
	}
	return nil
}

// refuse replaces the socket by one that is bound and does not listen: its clients are refused, those that wait in the
// queue too, and the address stays ours but for the moment in between. No process has the old one: nobody serves. UDP
// clients cannot be refused.
func (c *Claim) refuse() error {
	if c.net != "tcp" {
		return nil
	}
	s := c.socket
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle == windows.InvalidHandle || s.refusing {
		return nil
	}
	s.refusing = true
	_ = windows.Closesocket(s.handle) // what waits in it is reset: that is what is wanted
	return s.rebind(c)
}

// rebind makes the socket anew.
func (s *rawSocket) rebind(c *Claim) (err error) {
	if s.handle, err = c.bind(s.bound, c.address); err != nil {
		s.handle = windows.InvalidHandle
	}
	return err
}

// accept has the socket listen again.
func (c *Claim) accept() error {
	s := c.socket
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.refusing {
		return nil
	}
	if s.handle == windows.InvalidHandle { // somebody was faster
		if err := s.rebind(c); err != nil {
			return err
		}
	}
	if err := c.listen(s.handle); err != nil {
		return err
	}
	s.refusing = false
	return nil
}

// soExclusiveAddrUse is ~SO_REUSEADDR, as winsock2.h has it.
const soExclusiveAddrUse = ^windows.SO_REUSEADDR

func (s *rawSocket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle == windows.InvalidHandle {
		return nil
	}
	h := s.handle
	s.handle = windows.InvalidHandle
	return os.NewSyscallError("closesocket", windows.Closesocket(h))
}

func (c *Claim) leave() {}
