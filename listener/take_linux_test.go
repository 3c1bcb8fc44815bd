package listener

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// foreignRole is a server that knows of nobody: it binds the address in its
// arguments, tells what it got, answers "1" until its standard input ends, and
// accepts no more clients then.
func foreignRole() {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(5)
	}
	network, address := os.Args[1], os.Args[2]
	if network == "udp" {
		p, err := net.ListenPacket(network, address)
		if err != nil {
			fail(err)
		}
		fmt.Println(p.LocalAddr())
		go func() {
			b := make([]byte, 16)
			for {
				_, from, err := p.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = p.WriteTo([]byte("1"), from)
			}
		}()
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	l, err := net.Listen(network, address) // Multipath TCP, where the system has it
	if err != nil {
		fail(err)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, 1)
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// foreigner starts one as another user, if it is not 0.
func foreigner(t *testing.T, network, address string, user int) (pidfd *os.File, at string, end func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", network, address)
	cmd.Env = append(os.Environ(), roleVariable+"=foreign")
	cmd.Stderr = os.Stderr
	if user != 0 {
		if os.Getuid() != 0 {
			t.Skip("needs root: another user's server")
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			_ = in.Close()
			_ = cmd.Wait() // its status is of no interest
		}
	}
	t.Cleanup(end)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal("it told nothing: ", err)
	}
	return pidfdOf(t, cmd.Process.Pid), strings.TrimSpace(line), end
}

// TestTake: a server that nobody here started keeps its clients when its
// sockets are taken, and loses none when another generation takes its place.
func TestTake(t *testing.T) {
	for name, of := range map[string]struct {
		network, address string
		user             int
	}{
		"tcp":            {"tcp4", "127.0.0.1:0", 0},
		"dual stack":     {"tcp", ":0", 0},
		"another user's": {"tcp4", "127.0.0.1:0", 65534},
		"unix":           {"unix", "", 0},
		"back and forth": {"tcp4", "127.0.0.1:0", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if of.network == "unix" {
				of.address = t.TempDir() + "/s"
			}
			pidfd, at, end := foreigner(t, of.network, of.address, of.user)
			network := strings.TrimRight(of.network, "4")
			l := hammer(t, 4, network, at, 1)
			l.more(t, 50)
			seen := count(t)
			s := newSet(t, Config{Observe: seen.observe, RescueTime: 1})
			if err := s.Take(1, pidfd); err != nil {
				if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
					t.Skip("needs pidfd_getfd: ", err)
				}
				t.Fatal(err)
			}
			claims := s.Claims()
			if len(claims) != 1 || claims[0].Network() != network || len(s.Lanes(1)) != 1 || !s.Lanes(1)[0].Steered() {
				t.Fatalf("claims %v, lanes %v", claims, s.Lanes(1))
			}
			l.more(t, 100)
			c := claims[0]
			lane(t, s, c, 2)
			serve(t, s, 2)
			if err := s.Steer(2); err != nil {
				t.Fatal(err)
			}
			if name == "back and forth" {
				l.more(t, 100)
				if err := s.Steer(1); err != nil {
					t.Fatal(err)
				}
				l.more(t, 100)
				if err := s.Share(2, 50); err != nil {
					t.Fatal(err)
				}
				l.more(t, 100)
				if err := s.Steer(2); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Settle(t.Context(), 1, SettleOptions{Quiet: 1}); err != nil {
				t.Fatal(err)
			}
			end()
			s.Retire(1)
			l.steered.Store(2)
			l.more(t, 100)
			eventually(t, "its lane has left", func() bool { return len(s.Lanes(1)) == 0 })
			l.more(t, 100)
			l.verify(t)
			if got := len(s.LanesOn(c)); got != 1 {
				t.Errorf("%d lanes are left", got)
			}
		})
	}
}

func TestTakeUDP(t *testing.T) {
	port := 20000 + os.Getpid()%10000
	for ; ; port++ {
		p, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = p.Close() // nobody came
			break
		}
	}
	pidfd, at, end := foreigner(t, "udp", fmt.Sprintf("127.0.0.1:%d", port), 0)
	s := newSet(t, Config{RescueTime: 1})
	if err := s.Take(1, pidfd); err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			t.Skip("needs pidfd_getfd: ", err)
		}
		t.Fatal(err)
	}
	for range 20 {
		if got, err := ask("udp", at); got != 1 || err != nil {
			t.Fatalf("answered by %d, %v", got, err)
		}
	}
	lane(t, s, s.Claims()[0], 2)
	serve(t, s, 2)
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	end()
	s.Retire(1)
	for range 20 {
		if got, err := ask("udp", at); got != 2 || err != nil {
			t.Fatalf("answered by %d, %v", got, err)
		}
	}
}

// TestTakeNothing: a process that serves nobody, and one that is gone.
func TestTakeNothing(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Skip("needs sleep: ", err)
	}
	pidfd := pidfdOf(t, cmd.Process.Pid)
	if err := NewSet(Config{}).Take(1, pidfd); !errors.Is(err, ErrNoLane) && !errors.Is(err, unix.EPERM) {
		t.Errorf("taken from sleep: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	if err := NewSet(Config{}).Take(1, pidfd); !errors.Is(err, ErrNoLane) {
		t.Errorf("taken from nobody: %v", err)
	}
}
