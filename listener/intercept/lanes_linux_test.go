package intercept

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/listener"
)

// lanes is a Handler that makes one group of SO_REUSEPORT sockets per address.
type lanes struct {
	t        testing.TB
	bindErr  error              // if set, every answer to bind
	entering func(Request)      // if set, called at each bind
	backlog  int                // 0: 4096
	mu       sync.Mutex         // of all below
	by       map[string][]*lane // in order
	inodes   map[uint64]*lane
	guests   map[int]bool // processes that asked
	lost     int          // calls of Lost
	requests []Request
}

type lane struct {
	file     *os.File
	inode    uint64
	listened int
}

func newLanes(t testing.TB) *lanes {
	h := &lanes{t: t, by: map[string][]*lane{}, inodes: map[uint64]*lane{}, guests: map[int]bool{}}
	t.Cleanup(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, l := range h.inodes {
			_ = l.file.Close() // only a socket
		}
	})
	return h
}

func (h *lanes) Bind(r Request) (Injection, error) {
	if h.entering != nil {
		h.entering(r)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, r)
	h.guests[r.Tgid] = true
	if h.bindErr != nil {
		return Injection{}, h.bindErr
	}
	key := fmt.Sprint(r.Socket.Network, r.Socket.Addr, r.Socket.V6Only)
	for _, l := range h.by[key] {
		if !h.heldLocked(l.inode) {
			return h.injectionLocked(l)
		}
	}
	if len(h.by[key]) > 0 && !r.Socket.ReusePort {
		return Injection{}, fmt.Errorf("lane: %w", unix.EADDRINUSE)
	}
	l, err := makeLane(r.Socket)
	if err != nil {
		return Injection{}, err
	}
	h.by[key] = append(h.by[key], l)
	h.inodes[l.inode] = l
	return h.injectionLocked(l)
}

func (h *lanes) injectionLocked(l *lane) (Injection, error) {
	var i Injection
	err := control(l.file, func(fd int) error {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		i.File = os.NewFile(uintptr(d), "lane")
		return err
	})
	i.Lost = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.lost++
	}
	return i, err
}

// heldLocked tells whether a guest has the socket.
func (h *lanes) heldLocked(inode uint64) bool {
	for pid := range h.guests {
		same, _, err := (&task{tid: pid}).descriptors(inode)
		if err == nil && len(same) > 0 {
			return true
		}
	}
	return false
}

func (h *lanes) Listen(r Request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.inodes[r.Inode]
	l.listened++
	backlog := h.backlog
	if backlog == 0 {
		backlog = 4096
	}
	return control(l.file, func(fd int) error { return unix.Listen(fd, backlog) })
}

func (h *lanes) Owns(inode uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inodes[inode] != nil
}

// lane finds one by its inode, given as the guest wrote it.
func (h *lanes) lane(inode string) *lane {
	h.t.Helper()
	n, err := strconv.ParseUint(inode, 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.inodes[n]
	if l == nil {
		h.t.Fatalf("the guest has socket %s, which is no lane", inode)
	}
	return l
}

// bound is the first Request of a bind.
func (h *lanes) bound() Request {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.requests) == 0 {
		h.t.Fatal("no bind arrived")
	}
	return h.requests[0]
}

func makeLane(s listener.Socket) (*lane, error) {
	sort := unix.SOCK_STREAM
	if s.Network == "udp" {
		sort = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(s.Family, sort|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "lane")
	errs := []error{unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)}
	for _, o := range s.Options {
		errs = append(errs, unix.SetsockoptString(fd, o.Level, o.Name, string(o.Value)))
	}
	if s.Family == unix.AF_INET6 {
		only := 0
		if s.V6Only {
			only = 1
		}
		errs = append(errs, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only))
	}
	var st unix.Stat_t
	errs = append(errs, unix.Bind(fd, sockaddrOf(s.Family, s.Addr)), unix.Fstat(fd, &st))
	if err := errors.Join(errs...); err != nil {
		_ = file.Close() // only a socket
		return nil, err
	}
	return &lane{file: file, inode: st.Ino}, nil
}

func sockaddrOf(family int, a netip.AddrPort) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// free is an address with a port that nobody has, outside the range that the
// kernel gives out. host "" is one of the loopback's many addresses, drawn by
// lot, so that two runs of the tests do not meet.
func free(t testing.TB, host string) string {
	t.Helper()
	for range 1000 {
		h := host
		if h == "" {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], 127<<24|rand.Uint32N(1<<24-2)+1)
			h = netip.AddrFrom4(b).String()
		}
		a := net.JoinHostPort(h, strconv.Itoa(10000+rand.IntN(20000)))
		l, err := net.Listen("tcp", a)
		if err != nil {
			if host == "::1" && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)) {
				t.Skip("no IPv6 loopback")
			}
			continue
		}
		p, err := net.ListenPacket("udp", a)
		_ = l.Close() // only a probe
		if err != nil {
			continue
		}
		_ = p.Close() // only a probe
		return a
	}
	t.Fatal("no free port")
	return ""
}
