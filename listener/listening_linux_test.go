package listener

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// What this process listens on is listed, under the inode that it has, until it is closed.
func TestAllListening(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Skip(err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		if n := listed(t, at); n != 1 {
			t.Errorf("%s is listed %d times", at, n)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if n := listed(t, at); n != 0 {
			t.Errorf("%s is listed %d times once it is closed", at, n)
		}
	}
}

func listed(t *testing.T, at netip.AddrPort) int {
	t.Helper()
	all, err := AllListening()
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(l Listening) bool { return l.Addr != at })
	for _, l := range all {
		if l.Inode == 0 || l.Pid != 0 {
			t.Errorf("%+v: an inode, and no pid, is expected", l)
		}
	}
	return len(all)
}
