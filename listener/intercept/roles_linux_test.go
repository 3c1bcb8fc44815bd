package intercept

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// roles are what a guest can do. Each says what it found, and ends when its
// stdin does.
var roles = map[string]func(in *bufio.Scanner, args []string) error{
	"hello":      func(*bufio.Scanner, []string) error { say("hello"); return nil },
	"listen":     roleListen,
	"packet":     rolePacket,
	"reuseport":  roleReusePort,
	"twice":      roleTwice,
	"again":      roleAgain,
	"fork":       roleFork,
	"inherited":  roleInherited,
	"epoll":      roleEpoll,
	"epolls":     roleEpolls,
	"options":    roleOptions,
	"two":        roleTwo,
	"others":     roleOthers,
	"signals":    roleSignals,
	"steering":   roleSteering,
	"listenfile": roleListenOnUDP,
	"bench":      roleBench,
	"reach":      roleReach,
}

func guestMain(role string) {
	in := bufio.NewScanner(os.Stdin)
	if err := roles[role](in, os.Args[1:]); err != nil {
		say("error %v", err)
		os.Exit(1)
	}
	for in.Scan() {
	}
	os.Exit(0)
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// inodeOf tells the socket behind a descriptor of our own.
func inodeOf(fd int) uint64 {
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return 0
	}
	n, _ := parseSocketLink(link) // 0 otherwise
	return n
}

func inodeOfConn(c syscall.Conn) (n uint64) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n = inodeOf(int(fd)) })
	}
	if err != nil {
		return 0
	}
	return n
}

// echo answers lines on every connection.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(c, c); _ = c.Close() }() // the client may go at any time
	}
}

func roleListen(in *bufio.Scanner, args []string) error {
	var c net.ListenConfig
	if len(args) > 2 {
		c.SetMultipathTCP(args[2] == "mptcp")
	}
	l, err := c.Listen(context.Background(), args[0], args[1])
	if err != nil {
		return err
	}
	go echo(l)
	say("ready %d", inodeOfConn(l.(syscall.Conn)))
	return nil
}

func rolePacket(in *bufio.Scanner, args []string) error {
	p, err := net.ListenPacket(args[0], args[1])
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(b[:n], from) // the client may be gone
		}
	}()
	say("ready %d", inodeOfConn(p.(syscall.Conn)))
	return nil
}

func reusePort(network, address string, c syscall.RawConn) error {
	var inner error
	if err := c.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); err != nil {
		return err
	}
	return inner
}

// roleReusePort binds four times at once, as threads of a server do.
func roleReusePort(in *bufio.Scanner, args []string) error {
	c := net.ListenConfig{Control: reusePort}
	found := make(chan string)
	for range 4 {
		go func() {
			l, err := c.Listen(context.Background(), args[0], args[1])
			if err != nil {
				found <- err.Error()
				return
			}
			go echo(l)
			found <- strconv.FormatUint(inodeOfConn(l.(syscall.Conn)), 10)
		}()
	}
	all := make([]string, 4)
	for i := range all {
		all[i] = <-found
	}
	say("ready %s", strings.Join(all, " "))
	return nil
}

func roleTwice(in *bufio.Scanner, args []string) error {
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		return err
	}
	go echo(l)
	_, err = net.Listen(args[0], args[1])
	say("second %v", errors.Is(err, unix.EADDRINUSE))
	return nil
}

func roleAgain(in *bufio.Scanner, args []string) error {
	first, err := net.Listen(args[0], args[1])
	if err != nil {
		return err
	}
	was := inodeOfConn(first.(syscall.Conn))
	if err := first.Close(); err != nil {
		return err
	}
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		return err
	}
	go echo(l)
	say("ready %d %d", was, inodeOfConn(l.(syscall.Conn)))
	return nil
}

func rawSocket(flags int) (int, error) {
	return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|flags, 0)
}

func rawBind(fd int, to string) error {
	a, err := net.ResolveTCPAddr("tcp4", to)
	if err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())})
}

// roleFork binds, and lets a child listen and accept.
func roleFork(in *bufio.Scanner, args []string) error {
	fd, err := rawSocket(unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	if err := rawBind(fd, args[0]); err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "bound")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=inherited")
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	hold, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for in.Scan() {
	}
	_ = hold.Close() // the child ends by it
	return cmd.Wait()
}

func roleInherited(in *bufio.Scanner, _ []string) error {
	// A duplicate, as many servers make.
	fd, err := unix.Dup(3)
	if err != nil {
		return err
	}
	if err := unix.Listen(fd, 1); err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(uintptr(fd), "inherited"))
	if err != nil {
		return err
	}
	go echo(l)
	say("ready %d", inodeOf(3))
	return nil
}

// roleTwo binds two addresses at once and tells when each is bound.
func roleTwo(in *bufio.Scanner, args []string) error {
	done := make(chan error)
	for _, to := range args {
		go func() {
			l, err := net.Listen("tcp4", to)
			if err == nil {
				say("bound %s", to)
				go echo(l)
			}
			done <- err
		}()
	}
	return errors.Join(<-done, <-done)
}

// roleOthers binds what is none of ours.
func roleOthers(in *bufio.Scanner, args []string) error {
	if l, err := net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return err
	} else {
		defer l.Close()
		go echo(l)
		say("port0 %s", l.Addr())
	}
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	defer l.Close()
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	if err := unix.Bind(nl, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	// The kernel's own errors.
	fd, err := rawSocket(unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	say("errors %v %v %v",
		errors.Is(unix.Bind(-1, &unix.SockaddrInet4{Port: 1}), unix.EBADF),
		errors.Is(unix.Bind(fd, &unix.SockaddrInet6{Port: 1}), unix.EAFNOSUPPORT),
		errors.Is(unix.Listen(-1, 1), unix.EBADF))
	for in.Scan() {
	}
	return nil
}

// roleSignals binds and closes many times while signals come in.
func roleSignals(in *bufio.Scanner, args []string) error {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGUSR1) // Go's handlers restart calls
	for range 20 {
		fd, err := rawSocket(unix.SOCK_CLOEXEC)
		if err != nil {
			return err
		}
		if err := rawBind(fd, args[0]); err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	say("ready")
	return nil
}

// roleSteering attaches a program of its own to its group.
func roleSteering(in *bufio.Scanner, args []string) error {
	c := net.ListenConfig{Control: reusePort}
	l, err := c.Listen(context.Background(), "tcp4", args[0])
	if err != nil {
		return err
	}
	go echo(l)
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		prog, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
		if err != nil {
			inner = err
			return
		}
		filter := make([]unix.SockFilter, len(prog))
		for i, p := range prog {
			filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
		}
		inner = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
	say("attached %v", errors.Join(err, inner))
	return nil
}

func roleListenOnUDP(in *bufio.Scanner, args []string) error {
	p, err := net.ListenPacket("udp4", args[0])
	if err != nil {
		return err
	}
	raw, err := p.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { say("listen %v", errors.Is(unix.Listen(int(fd), 1), unix.EOPNOTSUPP)) })
}

// roleBench binds args[1] times and tells the nanoseconds that it took.
func roleBench(in *bufio.Scanner, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var took time.Duration
	for range n {
		fd, err := rawSocket(unix.SOCK_CLOEXEC)
		if err != nil {
			return err
		}
		begin := time.Now()
		err = rawBind(fd, args[0])
		took += time.Since(begin)
		if err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	say("took %d", took.Nanoseconds())
	return nil
}
