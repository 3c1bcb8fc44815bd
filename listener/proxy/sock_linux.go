//go:build !goroutines

package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// errAgain is that of a socket that would make its caller wait.
const errAgain = unix.EAGAIN

// edges are the events that a loop hears of, once each: what a socket can do is remembered in sock.
const edges = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET

// sock is a non-blocking socket. It belongs to one loop, which alone uses and closes it.
type sock struct {
	fd       int32 // -1: closed
	readable bool  // reading may give something
	writable bool
	final    bool // an end, an error or urgent data was reported: one short read is not all
	broken   bool // an error was reported
	tcp      bool // a short read has emptied it (tcp(7)); other sockets stop at ancillary data
	nagle    bool // it has no TCP_NODELAY yet, see prompt
	sent     bool // something, since nagle
}

func newSock(fd int, tcp bool) sock { return sock{fd: int32(fd), tcp: tcp, writable: true} }

// note what the kernel reported.
func (k *sock) note(events uint32) {
	const last = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLPRI
	if events&(unix.EPOLLIN|last) != 0 {
		k.readable = true
	}
	if events&last != 0 {
		k.final = true
	}
	if events&unix.EPOLLERR != 0 {
		k.broken = true
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		k.writable = true
	}
}

// read gives io.EOF at the end, and errAgain when there is nothing.
func (k *sock) read(b []byte) (int, error) {
	n, err := recv(k.fd, b)
	switch {
	case err == errAgain:
		k.readable = false
	case err != nil:
	case n == 0:
		return 0, io.EOF
	case n < len(b) && k.tcp && !k.final:
		k.readable = false
	}
	return n, err
}

// prompt is called before each send, so that none waits for the peer's acknowledgement. The first one on a
// connection has nothing to wait for, and short connections have no other.
func (k *sock) prompt() {
	switch {
	case !k.nagle:
	case !k.sent:
		k.sent = true
	default:
		k.nagle = false
		_ = unix.SetsockoptInt(int(k.fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // what is wrong with it, the send says
	}
}

// write gives errAgain, with what was taken, when not all was.
func (k *sock) write(b []byte) (int, error) {
	k.prompt()
	n, err := send(k.fd, b)
	if err == nil && n < len(b) {
		err = errAgain
	}
	if err == errAgain {
		k.writable = false
	}
	return n, err
}

// end half-closes: the peer reads the end after all that was written.
func (k *sock) end() error { return shutdown(k.fd, unix.SHUT_WR) }

// abort closes so that the peer sees a reset, where the transport has one.
func (k *sock) abort() {
	if k.fd >= 0 {
		_ = unix.SetsockoptLinger(int(k.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // closed anyway
		k.close()
	}
}

func (k *sock) close() {
	if k.fd >= 0 {
		closeSocket(k.fd)
		k.fd = -1
	}
}

// failure gives and takes the socket's error.
func (k *sock) failure() error {
	n, err := unix.GetsockoptInt(int(k.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	return err
}

// detach takes c: it is closed, and its socket goes on under a descriptor of its own.
func detach(c net.Conn) (sock, error) {
	defer func() { _ = c.Close() }() // the duplicate is what counts
	fd, err := duplicate(c)
	if err != nil {
		return sock{fd: -1}, err
	}
	return newSock(fd, isTCP(fd)), nil
}

// duplicate the descriptor of a socket, or a listener; it does not block.
func duplicate(c any) (int, error) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return -1, errors.New("proxy: a connection without a descriptor")
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, cause := -1, error(nil)
	if err := raw.Control(func(from uintptr) { fd, cause = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if cause == nil {
		if cause = unix.SetNonblock(fd, true); cause != nil {
			_ = unix.Close(fd) // of no use
		}
	}
	return fd, os.NewSyscallError("fcntl", cause)
}
