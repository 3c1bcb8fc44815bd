package intercept

import (
	"encoding/binary"
	"net/netip"
)

// Linux address families and sizes, the same on every architecture.
const (
	afUnspec = 0
	afInet   = 2
	afInet6  = 10

	sizeInet     = 16  // struct sockaddr_in
	sizeInet6Old = 24  // SIN6_LEN_RFC2133: without the scope
	sizeInet6    = 28  // struct sockaddr_in6
	sizeMax      = 128 // struct sockaddr_storage; the kernel refuses more
)

// address is the argument of a bind(2) that may be taken over.
type address struct {
	family int            // afInet or afInet6; afUnspec is afInet for the kernel when the address is any
	addr   netip.AddrPort // never port 0; 4-in-6 stays 4-in-6
	scope  uint32         // sin6_scope_id, 0: none
}

// parseSockaddr reads what bind(2) was given. false: nothing to take over
// (another family, port 0, a multicast address, or an error that the kernel
// shall find itself).
func parseSockaddr(b []byte) (address, bool) {
	if len(b) < sizeInet || len(b) > sizeMax {
		return address{}, false
	}
	port := binary.BigEndian.Uint16(b[2:])
	var a address
	switch family := binary.NativeEndian.Uint16(b); family {
	case afInet, afUnspec:
		ip := netip.AddrFrom4([4]byte(b[4:8]))
		if family == afUnspec && !ip.IsUnspecified() {
			return address{}, false
		}
		a = address{family: afInet, addr: netip.AddrPortFrom(ip, port)}
	case afInet6:
		if len(b) < sizeInet6Old {
			return address{}, false
		}
		a = address{family: afInet6, addr: netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), port)}
		if len(b) >= sizeInet6 {
			a.scope = binary.NativeEndian.Uint32(b[24:])
		}
	default:
		return address{}, false
	}
	if port == 0 || a.addr.Addr().IsMulticast() {
		return address{}, false
	}
	return a, true
}
