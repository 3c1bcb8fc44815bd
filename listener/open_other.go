//go:build !linux && !windows

package listener

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
)

// socket is one of the net package's.
type socket interface{ File() (*os.File, error) }

func (l *Lane) dup() (*os.File, error) {
	f, err := l.claim.socket.File()
	if err != nil {
		return nil, fmt.Errorf("listener: duplicate lane: %w", err)
	}
	return f, nil
}

func (c *Claim) open(ctx context.Context) error {
	a := c.address
	c.net = a.Network[:min(3, len(a.Network))]
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	hostport := net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
	switch c.net {
	case "tcp":
		l, err := lc.Listen(ctx, a.Network, hostport)
		if err != nil {
			return err
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			l.Close()
			return fmt.Errorf("listener: a %T", l)
		}
		c.socket, c.close = tcp, tcp.Close
		c.setPort(tcp.Addr().String())
	case "udp":
		p, err := lc.ListenPacket(ctx, a.Network, hostport)
		if err != nil {
			return err
		}
		udp, ok := p.(*net.UDPConn)
		if !ok {
			p.Close()
			return fmt.Errorf("listener: a %T", p)
		}
		c.socket, c.close = udp, udp.Close
		c.setPort(udp.LocalAddr().String())
	default:
		return c.openPath(ctx)
	}
	return nil
}

// openPath binds a socket to a path.
func (c *Claim) openPath(ctx context.Context) error {
	a := c.address
	c.net, c.addr = a.Network, a.Path
	var lc net.ListenConfig
	if datagrams(c.net) {
		p, err := lc.ListenPacket(ctx, c.net, a.Path)
		if err != nil {
			return err
		}
		u, ok := p.(*net.UnixConn)
		if !ok {
			p.Close()
			return fmt.Errorf("listener: a %T", p)
		}
		g := &unixgram{UnixConn: u, path: a.Path}
		c.socket, c.close = g, g.Close
	} else {
		l, err := lc.Listen(ctx, c.net, a.Path)
		if err != nil {
			return err
		}
		u, ok := l.(*net.UnixListener)
		if !ok {
			l.Close()
			return fmt.Errorf("listener: a %T", l)
		}
		c.socket, c.close = u, u.Close
	}
	if a.Mode != 0 {
		return os.Chmod(a.Path, a.Mode)
	}
	return nil
}

// unixgram is a datagram socket whose path goes with it, as a listener's does.
type unixgram struct {
	*net.UnixConn
	path string
	kept bool
}

func (u *unixgram) Close() error {
	if !u.kept {
		_ = os.Remove(u.path) // somebody else has removed it
	}
	return u.UnixConn.Close()
}

// leave keeps the path of a unix socket when it is closed.
func (c *Claim) leave() {
	switch u := c.socket.(type) {
	case *net.UnixListener:
		u.SetUnlinkOnClose(false)
	case *unixgram:
		u.kept = true
	}
}

// refuse cannot be: a socket that listens does so until it is closed, and then the address is anybody's.
func (c *Claim) refuse() error { return errSteering }

func (c *Claim) accept() error { return nil }
