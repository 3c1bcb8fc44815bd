package intercept

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// sockaddr lays out a struct sockaddr_in or sockaddr_in6 of size bytes.
func sockaddr(family uint16, to string, scope uint32, size int) []byte {
	a := netip.MustParseAddrPort(to)
	b := make([]byte, max(size, sizeInet6))
	binary.NativeEndian.PutUint16(b, family)
	binary.BigEndian.PutUint16(b[2:], a.Port())
	if family == afInet6 {
		ip := a.Addr().As16()
		copy(b[8:], ip[:])
		binary.NativeEndian.PutUint32(b[24:], scope)
	} else {
		ip := a.Addr().As4()
		copy(b[4:], ip[:])
	}
	return b[:size]
}

func TestParseSockaddr(t *testing.T) {
	tests := []struct {
		name   string
		in     []byte
		want   string // "": not taken over
		family int
		scope  uint32
	}{
		{"inet", sockaddr(afInet, "127.0.0.1:80", 0, 16), "127.0.0.1:80", afInet, 0},
		{"inet in a storage", sockaddr(afInet, "127.0.0.1:80", 0, 128), "127.0.0.1:80", afInet, 0},
		{"unspecified family, any address", sockaddr(afUnspec, "0.0.0.0:80", 0, 16), "0.0.0.0:80", afInet, 0},
		{"unspecified family, an address", sockaddr(afUnspec, "127.0.0.1:80", 0, 16), "", 0, 0},
		{"inet, short", sockaddr(afInet, "127.0.0.1:80", 0, 15), "", 0, 0},
		{"inet, long", sockaddr(afInet, "127.0.0.1:80", 0, 129), "", 0, 0},
		{"inet, port 0", sockaddr(afInet, "127.0.0.1:0", 0, 16), "", 0, 0},
		{"inet, multicast", sockaddr(afInet, "224.0.0.251:5353", 0, 16), "", 0, 0},
		{"inet6", sockaddr(afInet6, "[::1]:80", 0, 28), "[::1]:80", afInet6, 0},
		{"inet6, scope", sockaddr(afInet6, "[fe80::1]:80", 7, 28), "[fe80::1]:80", afInet6, 7},
		{"inet6, old", sockaddr(afInet6, "[::1]:80", 7, 24), "[::1]:80", afInet6, 0},
		{"inet6, short", sockaddr(afInet6, "[::1]:80", 0, 23), "", 0, 0},
		{"inet6, mapped", sockaddr(afInet6, "[::ffff:10.0.0.1]:80", 0, 28), "[::ffff:10.0.0.1]:80", afInet6, 0},
		{"inet6, multicast", sockaddr(afInet6, "[ff02::fb]:5353", 0, 28), "", 0, 0},
		{"unix", append([]byte{1, 0}, "/run/a-long-enough-path"...), "", 0, 0},
		{"nothing", nil, "", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseSockaddr(tt.in)
			if ok != (tt.want != "") {
				t.Fatalf("taken over: %v, want %q", ok, tt.want)
			}
			if ok && (got.addr.String() != tt.want || got.family != tt.family || got.scope != tt.scope) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func FuzzSockaddr(f *testing.F) {
	f.Add(sockaddr(afInet, "127.0.0.1:80", 0, 16))
	f.Add(sockaddr(afInet6, "[fe80::1]:80", 7, 28))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parseSockaddr(b)
		if !ok {
			return
		}
		if a.addr.Port() == 0 || !a.addr.IsValid() || a.addr.Addr().IsMulticast() {
			t.Errorf("%v from %x", a, b)
		}
		if (a.family == afInet) != (a.addr.Addr().BitLen() == 32) {
			t.Errorf("family %d of %v", a.family, a.addr)
		}
	})
}
