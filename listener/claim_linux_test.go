package listener

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	ln, err := (&net.ListenConfig{Control: reusePort}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p, err := (&net.ListenConfig{Control: reusePort}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	path := filepath.Join(t.TempDir(), "s")
	u, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	gram := filepath.Join(t.TempDir(), "g")
	g, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: gram, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, spec := range []string{
		"tcp4://" + ln.Addr().String(), "udp4://" + p.LocalAddr().String(),
		"unix://" + path, "unixgram://" + gram, "unixgram://" + path, "unix://" + gram,
	} {
		a, err := ParseAddress(spec)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Claim(t.Context(), a)
		var use *InUseError
		if !errors.Is(err, unix.EADDRINUSE) || !errors.As(err, &use) {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if use.Pid != os.Getpid() || use.Command == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v does not name us (pid %d)", spec, err, os.Getpid())
		}
	}
	if n := len(s.Claims()); n != 0 {
		t.Errorf("%d claims", n)
	}
}

func TestPathIsNoSocket(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(t.Context(), Address{Network: "unix", Path: path}); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file was replaced: %v", err)
	}
}

// TestDeadPaths: what an upgrader left that was killed is swept, what is alive stays.
func TestDeadPaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	for _, name := range []string{"s", ".lane-dead", ".lane-alive", "other"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		if name == ".lane-alive" {
			defer l.Close()
			continue
		}
		l.Close()
	}
	s := newSet(t, Config{})
	c := claim(t, s, "unix://"+path)
	lane(t, s, c, 1)
	serve(t, s, 1)
	if got, err := ask("unix", path); got != 1 || err != nil {
		t.Errorf("answered by generation %d, %v", got, err)
	}
	for name, want := range map[string]bool{".lane-dead": false, ".lane-alive": true, "other": true} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLongPath: the lanes' own names need not fit.
func TestLongPath(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "l")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	long := filepath.Join(dir, strings.Repeat("d", maxUnixPath-len(dir)-3))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	s := newSet(t, Config{})
	c := claim(t, s, "unix://"+filepath.Join(long, "s"))
	for gen := 1; gen < 4; gen++ {
		lane(t, s, c, gen)
		serve(t, s, gen)
		if err := s.Steer(gen); err != nil {
			t.Fatal(err)
		}
		if got, err := ask("unix", c.Dial()); got != gen || err != nil {
			t.Errorf("answered by generation %d, %v", got, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLaneIsPlainTCP(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	l := lane(t, s, claim(t, s, "tcp4://127.0.0.1:0"), 1)
	if p, err := unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); p != unix.IPPROTO_TCP || err != nil {
		t.Errorf("protocol %d, %v", p, err)
	}
	flags := func() int {
		n, err := unix.FcntlInt(uintptr(l.fd), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := flags()
	f, err := l.Dup()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if now := flags(); now != before {
		t.Errorf("a duplicate changed the description's flags from %#x to %#x", before, now)
	}
	if l.Inode() == 0 || l.Cookie() == 0 || l.Generation() != 1 {
		t.Errorf("inode %d, cookie %d, generation %d", l.Inode(), l.Cookie(), l.Generation())
	}
}

func reusePort(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); cerr != nil {
		return cerr
	}
	return err
}

// guest is a server that binds by itself.
func guest(ip string, port uint16) Socket {
	a := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
	s := Socket{Network: "tcp", Family: unix.AF_INET, Addr: a, NonBlocking: true}
	if a.Addr().Is6() {
		s.Family = unix.AF_INET6
	}
	return s
}

// bindAnywhere binds a guest's socket to a port that is free.
func bindAnywhere(t *testing.T, s *Set, gen int, sock Socket) (*Lane, Socket) {
	t.Helper()
	for range 200 {
		sock.Addr = netip.AddrPortFrom(sock.Addr.Addr(), uint16(20000+rand.IntN(10000)))
		l, err := s.Bind(gen, sock)
		if err == nil {
			return l, sock
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Fatal("no port is free")
	return nil, sock
}

func TestBindPasses(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	for name, sock := range map[string]Socket{
		"port 0":    guest("127.0.0.1", 0),
		"multicast": {Network: "udp", Family: unix.AF_INET, Addr: netip.MustParseAddrPort("224.0.0.251:5353")},
		"unix":      {Network: "unix", Family: unix.AF_UNIX},
		"netlink":   {Network: "netlink", Family: unix.AF_NETLINK},
		"family":    {Network: "tcp", Family: unix.AF_INET6, Addr: netip.MustParseAddrPort("127.0.0.1:80")},
	} {
		if l, err := s.Bind(1, sock); l != nil || !errors.Is(err, ErrPass) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
	if _, err := s.Bind(1, guest("192.0.2.1", 20000)); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("an address of others: %v", err)
	}
	if n := len(s.Claims()); n != 0 {
		t.Errorf("%d claims", n)
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	var held atomic.Bool
	held.Store(true)
	s := newSet(t, Config{Held: func(int, uint64) bool { return held.Load() }})
	l, sock := bindAnywhere(t, s, 1, guest("127.0.0.1", 0))
	if _, err := ask("tcp", sock.Addr.String()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("bound, not listening: %v", err)
	}
	if err := s.Listen(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(l); err != nil {
		t.Fatal("listening twice is allowed: ", err)
	}
	serve(t, s, 1)
	if got, err := ask("tcp", sock.Addr.String()); got != 1 || err != nil {
		t.Errorf("answered by generation %d, %v", got, err)
	}
	if _, err := s.Bind(1, sock); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second bind: %v", err)
	}
	reuse := sock
	reuse.ReusePort = true
	if more, err := s.Bind(1, reuse); err != nil || more == l {
		t.Errorf("a second bind with SO_REUSEPORT: %v, %v", more, err)
	}
	held.Store(false)
	if again, err := s.Bind(1, sock); err != nil || again != l {
		t.Errorf("bind, close, bind: %v, %v", again, err)
	}
	held.Store(true)

	if err := s.Prepare(2); err != nil {
		t.Fatal(err)
	}
	prepared := s.Lanes(2)
	if len(prepared) != 1 {
		t.Fatalf("prepared %d lanes", len(prepared))
	}
	if got, err := s.Bind(2, sock); err != nil || got != prepared[0] {
		t.Errorf("not the prepared lane: %v, %v", got, err)
	}
	if _, err := s.Bind(2, sock); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second bind of a prepared lane: %v", err)
	}

	// The next version binds all addresses.
	wide, err := s.Bind(3, guest("0.0.0.0", sock.Addr.Port()))
	if err != nil || wide.Claim() == l.Claim() {
		t.Fatalf("another address: %v, %v", wide, err)
	}
	s.Retire(1)
	s.Retire(2)
	eventually(t, "the old claim can be released", func() bool { return s.Release(l.Claim()) == nil })
	eventually(t, "the old claim is gone", func() bool { return len(s.Claims()) == 1 })
}

func TestBindOptions(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	sock := guest("127.0.0.1", 0)
	sock.NonBlocking = false
	sock.Options = []Option{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, []byte{1, 0, 0, 0}},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, []byte{0, 0, 0, 0}}, // ours
		{unix.SOL_SOCKET, 9999, []byte{1}},                       // not the kernel's
	}
	l, _ := bindAnywhere(t, s, 1, sock)
	if err := s.Listen(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(2); err != nil {
		t.Fatal(err)
	}
	for _, l := range append(s.Lanes(1), s.Lanes(2)...) {
		flags, err := unix.FcntlInt(uintptr(l.fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("generation %d: flags %#x, %v", l.Generation(), flags, err)
		}
		if v, err := unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE); v == 0 || err != nil {
			t.Errorf("generation %d: SO_KEEPALIVE %d, %v", l.Generation(), v, err)
		}
		if v, err := unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); v == 0 || err != nil {
			t.Errorf("generation %d: SO_REUSEPORT %d, %v", l.Generation(), v, err)
		}
	}
}

// TestBindIsCovered: a guest's bind is served by what the user claimed.
func TestBindIsCovered(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	c := claim(t, s, "tcp://:0")
	port := uint16(c.Address().Port)
	for gen, ip := range []string{"127.0.0.1", "0.0.0.0", "::", "::1"} {
		l, err := s.Bind(gen+1, guest(ip, port))
		if err != nil || l.Claim() != c {
			t.Errorf("%s: %v, %v", ip, l, err)
			continue
		}
		if err := s.Listen(l); err != nil {
			t.Fatal(err)
		}
		serve(t, s, gen+1)
		if err := s.Steer(gen + 1); err != nil {
			t.Fatal(err)
		}
		if got, err := ask("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); got != gen+1 || err != nil {
			t.Errorf("%s: answered by generation %d, %v", ip, got, err)
		}
	}
	if len(s.Claims()) != 1 {
		t.Error("another claim was made")
	}
}

func TestBindUDP(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	sock := guest("127.0.0.1", 0)
	sock.Network = "udp"
	l, sock := bindAnywhere(t, s, 1, sock)
	if err := s.Listen(l); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("listen: %v", err)
	}
	serve(t, s, 1)
	if _, err := s.Bind(2, sock); err != nil {
		t.Fatal(err)
	}
	serve(t, s, 2)
	for want := 1; want <= 2; want++ {
		if err := s.Steer(want); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if got, err := ask("udp", sock.Addr.String()); got != want || err != nil {
				t.Errorf("answered by generation %d, not %d: %v", got, want, err)
			}
		}
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	_, sock := bindAnywhere(t, s, 1, guest("127.0.0.1", 0))
	s.Abandon(1)
	eventually(t, "the claim is dropped", func() bool { return len(s.Claims()) == 0 })
	if err := s.Steer(1); !errors.Is(err, ErrNoLane) {
		t.Errorf("steer: %v", err)
	}
	if _, err := s.Bind(2, sock); err != nil {
		t.Errorf("bind again: %v", err)
	}
}

func TestClosedSet(t *testing.T) {
	t.Parallel()
	s := NewSet(Config{})
	c := claim(t, s, "tcp4://127.0.0.1:0")
	l := lane(t, s, c, 1)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Lane(c, 2); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := s.Steer(1); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := l.Dup(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	s.Retire(1)
	if _, err := ask("tcp", c.Dial()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the address is not free: %v", err)
	}
}
