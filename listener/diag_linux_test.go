package listener

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDiagOne: the end of a connection has an inode from its accept on, and is not found when it is gone.
func TestDiagOne(t *testing.T) {
	for _, c := range []struct{ network, listen, dial string }{
		{"tcp4", "127.0.0.1:0", ""}, {"tcp6", "[::1]:0", ""}, {"tcp", "[::]:0", "127.0.0.1"}, {"tcp", "[::]:0", "::1"},
	} {
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		ln, err := config.Listen(t.Context(), c.network, c.listen)
		if err != nil {
			t.Logf("%s: %v", c.listen, err)
			continue
		}
		address := ln.Addr().String()
		if c.dial != "" {
			_, port, _ := net.SplitHostPort(address)
			address = net.JoinHostPort(c.dial, port)
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := conn.LocalAddr().(*net.TCPAddr).AddrPort(), conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		if s, err := diagOne(theirs, ours); err != nil || s.inode != 0 || s.peer != ours.Port() {
			t.Errorf("%s, waiting: %+v, %v", address, s, err)
		}
		peer, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if s, err := diagOne(theirs, ours); err != nil || s.inode == 0 {
			t.Errorf("%s, accepted: %+v, %v", address, s, err)
		}
		_ = peer.(*net.TCPConn).SetLinger(0)
		_, _, _ = peer.Close(), conn.Close(), ln.Close()
		if s, err := diagOne(theirs, ours); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s, gone: %+v, %v", address, s, err)
		}
	}
}
