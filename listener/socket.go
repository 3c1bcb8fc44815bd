package listener

import "net/netip"

// Socket describes the socket that a guest is about to bind by itself.
type Socket struct {
	Network     string         // "tcp" or "udp"; anything else is passed on
	Family      int            // AF_INET or AF_INET6 of the guest's socket
	Addr        netip.AddrPort // the address that the guest binds; port 0 is passed on
	Zone        string         // interface name or number of a link-local IPv6 address
	V6Only      bool           // IPV6_V6ONLY
	ReusePort   bool           // SO_REUSEPORT: the guest means to have several sockets on the address
	Protocol    int            // SO_PROTOCOL; a lane of TCP is never Multipath TCP, whatever this says
	Options     []Option       // set on the lane as far as the kernel takes them
	NonBlocking bool           // O_NONBLOCK of the guest's description; a lane for it is made the same
}

// Option is one socket option, as for setsockopt(2).
type Option struct {
	Level int    `json:"level"`
	Name  int    `json:"name"`
	Value []byte `json:"value"`
}

// lanePrefix begins the names, beside a claimed path, of unix lanes.
const lanePrefix = ".lane-"
