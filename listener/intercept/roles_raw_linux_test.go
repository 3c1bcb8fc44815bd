package intercept

import (
	"bufio"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

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

// roleEpolls makes sets again and again; each has to be one.
func roleEpolls(_ *bufio.Scanner, args []string) error {
	watched, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return err
	}
	rounds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for n := range rounds {
		set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return err
		}
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, watched, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			return fmt.Errorf("set %d is number %d: %w", n, set, err)
		}
		if err := unix.Close(set); err != nil {
			return err
		}
	}
	say("ready")
	return nil
}
