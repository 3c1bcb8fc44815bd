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
	"options":    roleOptions,
	"two":        roleTwo,
	"others":     roleOthers,
	"signals":    roleSignals,
	"steering":   roleSteering,
	"listenfile": roleListenOnUDP,
	"bench":      roleBench,
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

// roleEpoll registers its socket, under two numbers, before it binds it.
func roleEpoll(in *bufio.Scanner, args []string) error {
	fd, err := rawSocket(unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	plain, err := unix.Dup(fd) // not close-on-exec
	if err != nil {
		return err
	}
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	const data = 0x5eed << 32
	for i, n := range []int{fd, plain} {
		e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(i), Pad: data >> 32}
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, n, &e); err != nil {
			return fmt.Errorf("add %d: %w", n, err)
		}
	}
	if err := rawBind(fd, args[0]); err != nil {
		return err
	}
	if err := unix.Listen(plain, 16); err != nil {
		return err
	}
	say("inodes %d %d", inodeOf(fd), inodeOf(plain))
	for _, n := range []int{fd, plain} {
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if err != nil {
			return err
		}
		status, err := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		say("flags cloexec=%v nonblock=%v", flags&unix.FD_CLOEXEC != 0, status&unix.O_NONBLOCK != 0)
	}
	// The registration is the guest's own: it can change it.
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: 1, Pad: data >> 32}
	if err := unix.EpollCtl(set, unix.EPOLL_CTL_MOD, plain, &e); err != nil {
		return fmt.Errorf("modify: %w", err)
	}
	say("ready")
	events := make([]unix.EpollEvent, 4)
	got := map[int32]bool{}
	for len(got) < 2 {
		n, err := unix.EpollWait(set, events, int(deadline/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return fmt.Errorf("epoll_wait: %d, %v", n, err)
		}
		for _, e := range events[:n] {
			if e.Events&unix.EPOLLIN != 0 && e.Pad == data>>32 {
				got[e.Fd] = true
			}
		}
	}
	c, _, err := unix.Accept4(fd, 0)
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	b := make([]byte, 64)
	n, err := unix.Read(c, b)
	if err != nil {
		return err
	}
	if _, err := unix.Write(c, b[:n]); err != nil {
		return err
	}
	for in.Scan() {
	}
	return nil
}

// guestOptionsSet are what roleOptions sets; options that the lane must have.
var guestOptionsSet = []struct{ level, name, value int }{
	{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.SOL_SOCKET, unix.SO_RCVBUF, 50000},
	{unix.SOL_SOCKET, unix.SO_SNDBUF, 60000},
	{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 11},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 5},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 12345},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 7},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 64},
	{unix.IPPROTO_IP, unix.IP_TOS, 0x10},
	{unix.IPPROTO_IP, unix.IP_TTL, 33},
	{unix.IPPROTO_IP, unix.IP_FREEBIND, 1},
}

// roleOptions sets options, and compares them before and after bind.
func roleOptions(in *bufio.Scanner, args []string) error {
	fd, err := rawSocket(unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	for _, o := range guestOptionsSet {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("option %d of %d: %w", o.name, o.level, err)
		}
	}
	linger := unix.Linger{Onoff: 1, Linger: 3}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &linger); err != nil {
		return err
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno"); err != nil {
		return err
	}
	look := func() map[string]string {
		m := make(map[string]string)
		for _, o := range options {
			v, err := getOption(fd, o.level, o.name)
			m[fmt.Sprintf("%d/%d", o.level, o.name)] = fmt.Sprintf("%x %v", v, err)
		}
		return m
	}
	before := look()
	if err := rawBind(fd, args[0]); err != nil {
		return err
	}
	for k, v := range look() {
		if before[k] != v {
			say("differs: option %s was %s, is %s", k, before[k], v)
		}
	}
	say("ready %d", inodeOf(fd))
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
