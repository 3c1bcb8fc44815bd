package listener

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for a fact.
const patience = 30 * time.Second

const roleVariable = "LISTENER_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "server":
		serverRole()
		return
	case "holder":
		holderRole()
		return
	case "foreign":
		foreignRole()
		return
	}
	before := sockets()
	goleak.VerifyTestMain(leakCheck{m, before})
}

// leakCheck adds descriptors to goleak's goroutines.
type leakCheck struct {
	m      *testing.M
	before int
}

func (l leakCheck) Run() int {
	code := l.m.Run()
	if now := sockets(); code == 0 && now > l.before {
		fmt.Fprintf(os.Stderr, "%d sockets before the tests, %d after\n", l.before, now)
		return 1
	}
	return code
}

// sockets counts this process's sockets and eventfds.
func sockets() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && (strings.HasPrefix(link, "socket:") || strings.Contains(link, "inotify")) {
			n++
		}
	}
	return n
}

// serverRole answers "1" to every client of descriptor 3 until its standard input ends.
func serverRole() {
	lane := os.NewFile(3, "lane")
	if kind, err := unix.GetsockoptInt(3, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_DGRAM {
		p, err := net.FilePacketConn(lane)
		if err != nil {
			os.Exit(3)
		}
		go echo(p, 1)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	l, err := net.FileListener(lane)
	if err != nil {
		os.Exit(3)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				os.Exit(4)
			}
			go answer(c, 1)
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// holderRole claims the address in its argument, starts a server on it, tells the state and waits to be killed.
func holderRole() {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(5)
	}
	a, err := ParseAddress(os.Args[1])
	if err != nil {
		fail(err)
	}
	s := NewSet(Config{})
	c, err := s.Claim(context.Background(), a)
	if err != nil {
		fail(err)
	}
	l, err := s.Lane(c, 1)
	if err != nil {
		fail(err)
	}
	f, err := l.Dup()
	if err != nil {
		fail(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"=server")
	cmd.Stdin = os.Stdin
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		fail(err)
	}
	if len(os.Args) > 2 { // a lane of a successor is there as well
		if err := s.Prepare(2); err != nil {
			fail(err)
		}
		if os.Args[2] == "leave" { // and clients queue for it
			if err := s.Steer(2); err != nil {
				fail(err)
			}
		}
	}
	told := orphan{Pid: cmd.Process.Pid, Addr: c.Dial(), State: s.State()}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		fail(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// orphan is what a holder tells.
type orphan struct {
	Pid   int
	Addr  string
	State State
}

// answer serves one client: one byte in, the generation out.
func answer(c net.Conn, gen int) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return
	}
	if _, err := fmt.Fprintf(c, "%d\n", gen); err != nil {
		return
	}
	_, _ = c.Read(b[:]) // the client ends first, so that the server's side is not in TIME_WAIT
}

// echo answers datagrams with the generation until its deadline. What it has read it answers, which a closed socket
// could not.
func echo(p net.PacketConn, gen int) {
	defer p.Close()
	b := make([]byte, 16)
	for {
		_, from, err := p.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err == nil {
			_, _ = p.WriteTo([]byte(strconv.Itoa(gen)), from)
		}
	}
}

// clientNumber makes names for clients that want an answer to a datagram.
var clientNumber atomic.Int64

// dialUnixgram connects a socket that can be answered.
func dialUnixgram(path string) (*net.UnixConn, error) {
	name := fmt.Sprintf("@client-%d-%d", os.Getpid(), clientNumber.Add(1))
	return net.DialUnix("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"}, &net.UnixAddr{Name: path, Net: "unixgram"})
}

// ask is one client: it returns the generation that answered.
func ask(network, addr string) (int, error) {
	if network == "unixgram" {
		c, err := dialUnixgram(addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		return exchange(c)
	}
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return exchange(c)
}

func exchange(c net.Conn) (int, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("?")); err != nil {
		return 0, err
	}
	b := make([]byte, 16)
	n, err := c.Read(b)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b[:n])))
}

// server is one in-process generation.
type server struct {
	stop func()
	work sync.WaitGroup
}

// serve answers on all lanes that gen has.
func serve(t *testing.T, s *Set, gen int) *server {
	t.Helper()
	lanes := s.Lanes(gen)
	if len(lanes) == 0 {
		t.Fatalf("generation %d has no lane", gen)
	}
	srv := &server{}
	var stops []func()
	for _, l := range lanes {
		f, err := l.Dup()
		if err != nil {
			t.Fatal(err)
		}
		if l.Claim().Datagrams() {
			p, err := net.FilePacketConn(f)
			if err != nil {
				t.Fatal(err)
			}
			stops = append(stops, func() { _ = p.SetReadDeadline(time.Now()) })
			srv.work.Go(func() { echo(p, gen) })
		} else {
			n, err := net.FileListener(f)
			if err != nil {
				t.Fatal(err)
			}
			stops = append(stops, func() { _ = n.Close() })
			srv.work.Go(func() {
				for {
					c, err := n.Accept()
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err == nil {
						srv.work.Go(func() { answer(c, gen) })
					}
				}
			})
		}
		f.Close()
	}
	srv.stop = sync.OnceFunc(func() {
		for _, stop := range stops {
			stop()
		}
		srv.work.Wait()
	})
	t.Cleanup(srv.stop)
	return srv
}

// newSet is a set that the test's end closes.
func newSet(t *testing.T, c Config) *Set {
	t.Helper()
	s := NewSet(c)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func claim(t *testing.T, s *Set, spec string) *Claim {
	t.Helper()
	a, err := ParseAddress(spec)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Claim(t.Context(), a)
	if err != nil {
		if strings.Contains(spec, "::") && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)) {
			t.Skip("no IPv6 here: ", err)
		}
		t.Fatal(err)
	}
	return c
}

func lane(t *testing.T, s *Set, c *Claim, gen int) *Lane {
	t.Helper()
	l, err := s.Lane(c, gen)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// eventually waits for a fact.
func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !fact() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never: " + what)
		}
	}
}

// inode of all sockets of this process, as a generation in it has them.
func ownInodes() (map[uint64]struct{}, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	out := map[uint64]struct{}{}
	for _, e := range entries {
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue
		}
		var n uint64
		if _, err := fmt.Sscanf(link, "socket:[%d]", &n); err == nil {
			out[n] = struct{}{}
		}
	}
	return out, nil
}
