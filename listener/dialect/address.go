package dialect

import (
	"strconv"
	"strings"
)

// An address is what a user's spec says, in its own spelling: nothing is
// resolved, because servers look their sockets up by what stands in their
// configuration.
type address struct {
	host, port string // host without brackets; "": every address
	path       string // of a unix socket
}

// join is HOST:PORT, with brackets around an IPv6 address.
func (a address) join() string {
	if strings.Contains(a.host, ":") {
		return "[" + a.host + "]:" + a.port
	}
	return a.host + ":" + a.port
}

// split reads a lane's spec: 8080, :8080, HOST:PORT, [HOST]:PORT, each with or
// without tcp:// and the like and a query, or unix:PATH, unix://PATH, PATH.
func split(l Lane) address {
	spec := l.Spec
	unix := strings.HasPrefix(l.Network, "unix")
	if scheme, rest, ok := strings.Cut(spec, "://"); ok && !strings.Contains(scheme, "/") {
		spec = rest
	} else if unix {
		spec = strings.TrimPrefix(spec, "unix:")
	}
	spec, _, _ = strings.Cut(spec, "?")
	if unix {
		return address{path: spec}
	}
	// Server::Starter writes a datagram port with a u in front.
	if i := strings.LastIndexByte(spec, ':'); strings.HasPrefix(l.Network, "udp") && strings.HasPrefix(spec[i+1:], "u") {
		spec = spec[:i+1] + spec[i+2:]
	}
	if _, err := strconv.ParseUint(spec, 10, 16); err == nil {
		return address{port: spec}
	}
	i := strings.LastIndexByte(spec, ':')
	if i < 0 {
		return address{host: spec}
	}
	host := strings.TrimSuffix(strings.TrimPrefix(spec[:i], "["), "]")
	return address{host: host, port: spec[i+1:]}
}

// sockets are the lanes among all: what a predecessor parked is none.
func sockets(all []Lane) []Lane {
	var out []Lane
	for _, l := range all {
		if !l.Stored {
			out = append(out, l)
		}
	}
	return out
}

// streams are the lanes that connections come from: servers that only know
// these would take a datagram socket for one.
func streams(all []Lane) []Lane {
	var out []Lane
	for _, l := range sockets(all) {
		if !strings.HasPrefix(l.Network, "udp") && l.Network != "unixgram" {
			out = append(out, l)
		}
	}
	return out
}

// numbers are the descriptors of lanes, joined by sep.
func numbers(lanes []Lane, sep string) string {
	s := make([]string, len(lanes))
	for i, l := range lanes {
		s[i] = strconv.Itoa(l.Fd)
	}
	return strings.Join(s, sep)
}
