package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// endpoint is what a lane is bound to. It is comparable: equal endpoints are one claim.
type endpoint struct {
	network string // tcp, udp, unix or unixgram
	family  int    // AF_INET, AF_INET6 or AF_UNIX
	addr    netip.AddrPort
	scope   uint32 // interface index of a link-local IPv6 address
	v6only  bool
	path    string
}

func (e endpoint) String() string {
	if e.onPath() {
		return e.path
	}
	return e.addr.String()
}

// onPath tells whether lanes are bound to names beside a path, and steered to by renaming.
// onPath tells whether lanes are bound to names beside a path, and steered to by renaming.
func (e endpoint) onPath() bool { return onPath(e.network) }

// datagrams tells whether there is nothing to listen for and nothing to accept.
func (e endpoint) datagrams() bool { return datagrams(e.network) }

func (e endpoint) kind() int {
	if e.datagrams() {
		return unix.SOCK_DGRAM
	}
	return unix.SOCK_STREAM
}

func (e endpoint) protocol() int {
	if e.network == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// sockaddr is for an endpoint of tcp or udp.
func (e endpoint) sockaddr() unix.Sockaddr {
	if e.family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(e.addr.Port()), Addr: e.addr.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(e.addr.Port()), ZoneId: e.scope, Addr: e.addr.Addr().As16()}
}

// dial is where a client on this host finds the endpoint.
func (e endpoint) dial() string {
	if e.onPath() {
		return e.path
	}
	ip, port := e.addr.Addr(), strconv.Itoa(int(e.addr.Port()))
	switch {
	case ip.IsUnspecified() && (e.family == unix.AF_INET || !e.v6only):
		return net.JoinHostPort("127.0.0.1", port) // a dual-stack socket takes it as well
	case ip.IsUnspecified():
		return net.JoinHostPort("::1", port)
	case e.scope != 0:
		return net.JoinHostPort(ip.String()+"%"+strconv.Itoa(int(e.scope)), port)
	}
	return net.JoinHostPort(ip.String(), port)
}

// overlaps tells whether e, claimed by the user, is to serve a guest that binds g.
func (e endpoint) overlaps(g endpoint) bool {
	if e.network != g.network || e.addr.Port() != g.addr.Port() || e.onPath() {
		return false
	}
	a, b := e.addr.Addr().Unmap(), g.addr.Addr().Unmap()
	if a == b && e.scope == g.scope {
		return true
	}
	// One of them takes all addresses, and of the other's family too.
	takes := func(x endpoint, ip netip.Addr) bool {
		if !x.addr.Addr().IsUnspecified() {
			return false
		}
		return ip.Is4() == (x.family == unix.AF_INET) || (ip.Is4() && !x.v6only)
	}
	return takes(e, b) || takes(g, a)
}

// resolve finds the endpoint of a parsed address.
func resolve(ctx context.Context, a Address) (endpoint, error) {
	if onPath(a.Network) {
		return endpoint{network: a.Network, family: unix.AF_UNIX, path: a.Path}, nil
	}
	if len(a.Network) < 3 || a.Port < 0 || a.Port > 65535 {
		return endpoint{}, fmt.Errorf("listener: network %q, port %d: no address", a.Network, a.Port)
	}
	e := endpoint{network: a.Network[:3]}
	want := a.Network[3:]
	if a.Host == "" {
		switch {
		case want == "4" || (want == "" && !haveIPv6()):
			e.family, e.addr = unix.AF_INET, netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(a.Port))
		default:
			e.family, e.addr, e.v6only = unix.AF_INET6, netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(a.Port)), want == "6"
		}
		return e, nil
	}
	ip, err := lookup(ctx, a.Host, want)
	if err != nil {
		return endpoint{}, fmt.Errorf("listener: claim %s: %w", a, err)
	}
	e.family = unix.AF_INET6
	if ip = ip.Unmap(); ip.Is4() {
		e.family = unix.AF_INET
	} else {
		e.v6only = want == "6"
	}
	if e.scope, err = scopeOf(ip.Zone()); err != nil {
		return endpoint{}, fmt.Errorf("listener: claim %s: %w", a, err)
	}
	e.addr = netip.AddrPortFrom(ip.WithZone(""), uint16(a.Port))
	return e.normal(), nil
}

// normal drops what makes no difference, so that equal addresses compare equal.
func (e endpoint) normal() endpoint {
	if e.family != unix.AF_INET6 || !e.addr.Addr().IsUnspecified() {
		e.v6only = false
	}
	return e
}

func lookup(ctx context.Context, host, want string) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip"+want, host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, ip := range ips { // IPv4 first, as net.Listen does
		if ip.Unmap().Is4() {
			return ip, nil
		}
	}
	if len(ips) == 0 {
		return netip.Addr{}, errors.New("the name has no address")
	}
	return ips[0], nil
}

// scopeOf finds the interface index of a zone, a name or a number.
func scopeOf(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	ifc, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("zone %s: %w", zone, err)
	}
	return uint32(ifc.Index), nil
}

// haveIPv6 tells whether this host can bind an IPv6 address at all (net.ipv6.conf.all.disable_ipv6 leaves
// the family, but no address, so that :: still binds).
func haveIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet6{}) == nil
}

// endpointOf is what a guest binds; false when it is none of ours.
func endpointOf(s Socket) (endpoint, bool) {
	ip := s.Addr.Addr()
	if !ip.IsValid() || s.Addr.Port() == 0 || ip.IsMulticast() {
		return endpoint{}, false
	}
	network := strings.TrimRight(s.Network, "46")
	if network != "tcp" && network != "udp" {
		return endpoint{}, false
	}
	e := endpoint{network: network, family: s.Family, v6only: s.V6Only}
	zone := s.Zone
	if zone == "" {
		zone = ip.Zone()
	}
	switch {
	case s.Family == unix.AF_INET && ip.Is4():
	case s.Family == unix.AF_INET6 && ip.Is6():
	default:
		return endpoint{}, false
	}
	scope, err := scopeOf(zone)
	if err != nil {
		return endpoint{}, false
	}
	e.scope = scope
	e.addr = netip.AddrPortFrom(ip.WithZone(""), s.Addr.Port())
	return e.normal(), true
}
