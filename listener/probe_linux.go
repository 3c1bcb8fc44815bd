package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// probeRoute sends the connections from one source port to one lane.
type probeRoute struct {
	port uint16
	lane *Lane
}

// instructions come before those that choose among members, index being where
// the lane is. Data begin behind the transport header when a group chooses;
// the network header is reached by SKF_NET_OFF. Packets with IPv4 options or
// IPv6 extension headers are not known as probes.
func (p probeRoute) instructions(index int) []bpf.Instruction {
	const network = 0xfff00000 // SKF_NET_OFF
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: network, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 6, SkipTrue: 2},
		bpf.LoadAbsolute{Off: network + 20, Size: 2},
		bpf.Jump{Skip: 1},
		bpf.LoadAbsolute{Off: network + 40, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(p.port), SkipFalse: 1},
		bpf.RetConstant{Val: uint32(index)},
	}
}

func (s *system) probe(ctx context.Context, gen int) error {
	lanes := s.probed(gen)
	for pause := time.Millisecond; len(lanes) == 0; pause = min(2*pause, 100*time.Millisecond) {
		select {
		case <-time.After(pause): // a guest that binds by itself may still do so
		case <-ctx.Done():
			return ErrNoLane
		}
		lanes = s.probed(gen)
	}
	for _, l := range lanes {
		if err := s.probeUntil(ctx, l); err != nil {
			return fmt.Errorf("listener: nobody accepted a probe on %s: %w", l.claim, err)
		}
	}
	return nil
}

// probed are the lanes of gen that a probe goes to: one on each stream claim.
func (s *system) probed(gen int) []*Lane {
	s.lock()
	defer s.unlock()
	var lanes []*Lane
	for _, c := range s.list {
		i := slices.IndexFunc(c.all, func(l *Lane) bool { return l.gen == gen && l.state == laneMember })
		if i >= 0 && !c.at.datagrams() {
			lanes = append(lanes, c.all[i])
		}
	}
	return lanes
}

// probeUntil tries until a probe was accepted.
func (s *system) probeUntil(ctx context.Context, l *Lane) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := s.probeLane(ctx, l)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// probeLane connects to one lane and waits until the connection was accepted.
func (s *system) probeLane(ctx context.Context, l *Lane) error {
	network, address := "unix", ""
	if l.claim.at.onPath() {
		address = filepath.Join(l.claim.dir.path, l.name)
	} else {
		network, address = "tcp", l.claim.Dial()
	}
	conn, err := s.connect(ctx, l, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for pause := time.Millisecond; ; pause = min(2*pause, 5*time.Millisecond) { // clients may be waiting for this
		if accepted, err := s.accepted(l, conn); accepted || err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// connect connects to one lane. The group has forgotten the source port when
// it returns: a connection that was made stays where it is.
func (s *system) connect(ctx context.Context, l *Lane, network, address string) (net.Conn, error) {
	var d net.Dialer
	if network != "unix" {
		d.SetMultipathTCP(false)
		d.Control = func(_, _ string, raw syscall.RawConn) error {
			var err error
			if cerr := raw.Control(func(fd uintptr) { err = s.routeProbe(int(fd), l) }); cerr != nil {
				return cerr
			}
			return err
		}
		defer s.endProbe(l)
	}
	return d.DialContext(ctx, network, address)
}

// dialLane connects to address, on the lane of gen if it is that of a claim.
func (s *system) dialLane(ctx context.Context, gen int, network, address string) (net.Conn, error) {
	if l := s.laneAt(gen, network, address); l != nil {
		return s.connect(ctx, l, network, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// laneAt is the lane of gen that takes the connections to address; nil when
// there is none, or when it is steered to anyhow.
func (s *system) laneAt(gen int, network, address string) *Lane {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return nil
	}
	to, _ := netip.ParseAddr(host) // of a name: nothing, and every claim of the port fits
	s.lock()
	defer s.unlock()
	for _, c := range s.list {
		at := c.at.addr
		if c.at.network != "tcp" || strconv.Itoa(int(at.Port())) != port {
			continue
		}
		if to.IsValid() && !at.Addr().IsUnspecified() && to.Unmap() != at.Addr().Unmap() {
			continue
		}
		for _, l := range c.all {
			if l.gen == gen && l.state == laneMember && !l.steered {
				return l
			}
		}
	}
	return nil
}

// routeProbe binds the socket of a probe, so that its port is known before it
// connects, and sends what comes from there to l.
func (s *system) routeProbe(fd int, l *Lane) error {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	var any unix.Sockaddr = &unix.SockaddrInet4{}
	if family == unix.AF_INET6 {
		any = &unix.SockaddrInet6{}
	}
	if err := unix.Bind(fd, any); err != nil {
		return os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	port := 0
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		port = a.Port
	case *unix.SockaddrInet6:
		port = a.Port
	}
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	l.claim.route = &probeRoute{port: uint16(port), lane: l}
	return s.attachLocked(l.claim)
}

// endProbe makes the group forget the probe of l.
func (s *system) endProbe(l *Lane) {
	s.lock()
	defer s.unlock()
	if c := l.claim; !s.closed && c.route != nil && c.route.lane == l {
		c.route = nil
		if err := s.attachLocked(c); err != nil {
			s.note(Failed, c, l.gen, err)
		}
		s.kickLocked() // what had to wait for the end of the probe
	}
}

// accepted tells whether somebody accepted conn: its other end has an inode
// from then on. An end that is gone was accepted and closed.
func (s *system) accepted(l *Lane, conn net.Conn) (bool, error) {
	if closed(conn) {
		return true, nil
	}
	if ours, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		theirs := conn.RemoteAddr().(*net.TCPAddr)
		s, err := diagOne(theirs.AddrPort(), ours.AddrPort())
		if err == nil || errors.Is(err, unix.ENOENT) {
			return s.inode != 0, nil
		}
	}
	// Nobody but us connects to a lane that is not steered to; on one that is, an empty queue says the same.
	s.lock()
	defer s.unlock()
	if l.state != laneMember || l.fd < 0 {
		return false, ErrNoLane
	}
	p := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(p, 0); err != nil {
		return false, nil // interrupted: look again
	}
	return p[0].Revents&unix.POLLIN == 0, nil
}

// closed tells whether the other end of conn closed it, or said something.
func closed(conn net.Conn) bool {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	end := false
	_ = raw.Control(func(fd uintptr) { // the connection is open: it is ours
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
		if _, err := unix.Poll(p, 0); err == nil {
			end = p[0].Revents != 0
		}
	})
	return end
}
