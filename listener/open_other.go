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
		c.net = "unix"
		l, err := lc.Listen(ctx, "unix", a.Path)
		if err != nil {
			return err
		}
		u, ok := l.(*net.UnixListener)
		if !ok {
			l.Close()
			return fmt.Errorf("listener: a %T", l)
		}
		c.socket, c.close, c.addr = u, u.Close, a.Path
		if a.Mode != 0 {
			return os.Chmod(a.Path, a.Mode)
		}
	}
	return nil
}

// leave keeps the path of a unix socket when it is closed.
func (c *Claim) leave() {
	if u, ok := c.socket.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
}
