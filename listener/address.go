package listener

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Address is an address to claim, as parsed by ParseAddress.
type Address struct {
	Name    string      // given by the user as NAME=; empty for none
	Network string      // tcp, tcp4, tcp6, udp, udp4, udp6, unix or unixgram
	Host    string      // name, or literal without brackets (a zone stays); empty for all addresses
	Port    int         // 0: the system chooses
	Path    string      // of a unix socket; absolute
	Backlog int         // depth of the accept queue; 0: as deep as the system lets it be
	Mode    fs.FileMode // permissions of a unix socket; 0: as the umask has them
	User    string      // owner of a unix socket, a name or a number; empty: ours
	Group   string      // group of a unix socket, a name or a number; empty: ours
	Spec    string      // as given, without NAME=
}

// networks are the schemes of an address.
var networks = [...]string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "unix", "unixgram"}

// onPath tells whether a network's addresses are paths.
func onPath(network string) bool { return network == "unix" || network == "unixgram" }

// ParseAddress reads [NAME=]ADDR, where ADDR is one of
//
//	8080  :8080  host:port  [::1]:80
//	tcp://… tcp4://… tcp6://… udp://… udp4://… udp6://…   with any of those
//	unix:///path  unixgram:///path
//
// followed by options as a query: ?backlog=N (of tcp and unix), and for paths ?mode=0660&user=NAME&group=NAME.
// A host that is empty or * means all addresses, of IPv6 and IPv4 alike with tcp and udp.
// The error is one line that repeats the address.
func ParseAddress(spec string) (Address, error) {
	fail := func(format string, args ...any) (Address, error) {
		return Address{}, fmt.Errorf("listener: address %q: %s", spec, fmt.Sprintf(format, args...))
	}
	name, addr := cutName(spec)
	if name != "" && !validName(name) {
		return fail("the name %q may have letters, digits, and . _ - only, 255 of them at most", name)
	}
	if addr == "" {
		return fail("it is empty")
	}
	for _, r := range addr {
		if r < ' ' || r == 0x7f {
			return fail("it has a control character")
		}
	}
	a := Address{Name: name, Network: "tcp", Spec: addr}
	rest, query, hasQuery := strings.Cut(addr, "?")
	if scheme, after, found := strings.Cut(rest, "://"); found {
		if !slices.Contains(networks[:], scheme) {
			return fail("the scheme %q is none of %s", scheme, strings.Join(networks[:], ", "))
		}
		a.Network, rest = scheme, after
	} else if scheme, after, found := strings.Cut(rest, ":"); found && onPath(scheme) {
		a.Network, rest = scheme, after
	}
	var err error
	if onPath(a.Network) {
		err = a.parsePath(rest)
	} else {
		err = a.parseHostPort(rest)
	}
	if err != nil {
		return fail("%v", err)
	}
	if hasQuery {
		if err := a.parseOptions(query); err != nil {
			return fail("%v", err)
		}
	}
	return a, nil
}

// cutName splits off NAME=. The = of an option does not count.
func cutName(spec string) (name, addr string) {
	i := strings.IndexAny(spec, "=:/?[")
	if i < 0 || spec[i] != '=' {
		return "", spec
	}
	if i == 0 {
		return "=", spec[1:] // an empty name: as invalid as this one
	}
	return spec[:i], spec[i+1:]
}

// validName holds for what LISTEN_FDNAMES can carry.
func validName(name string) bool {
	if len(name) > 255 {
		return false
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		default:
			return false
		}
	}
	return true
}

func (a *Address) parsePath(path string) error {
	switch {
	case path == "":
		return fmt.Errorf("the path is missing")
	case path[0] == '@':
		return fmt.Errorf("an abstract unix address cannot be claimed: it cannot be renamed")
	case !filepath.IsAbs(path) && path[0] != '/':
		return fmt.Errorf("the path is not absolute: as in unix:///path, there are three slashes")
	case strings.HasSuffix(path, "/"):
		return fmt.Errorf("the path names a directory")
	case len(path) > maxUnixPath:
		return fmt.Errorf("the path is %d bytes long, a unix socket's may have %d", len(path), maxUnixPath)
	}
	a.Path = filepath.Clean(path)
	if strings.HasPrefix(filepath.Base(a.Path), lanePrefix) {
		return fmt.Errorf("names that begin with %s are taken", lanePrefix)
	}
	return nil
}

func (a *Address) parseHostPort(s string) error {
	port := s
	if _, err := strconv.ParseUint(s, 10, 64); err != nil { // not a bare port
		var err error
		a.Host, port, err = net.SplitHostPort(s)
		if err != nil {
			reason := err.Error()
			if e, ok := err.(*net.AddrError); ok {
				reason = e.Err
			}
			if strings.Contains(s, "/") {
				return fmt.Errorf("%s (a path needs unix://)", reason)
			}
			return fmt.Errorf("%s", reason)
		}
	}
	if a.Host == "*" {
		a.Host = ""
	}
	n, err := strconv.ParseUint(port, 10, 64)
	if err != nil {
		return fmt.Errorf("the port %q is not a number", port)
	}
	if n > 65535 {
		return fmt.Errorf("the port %s is more than 65535", port)
	}
	a.Port = int(n)
	if strings.ContainsAny(a.Host, "/ ") {
		return fmt.Errorf("%q is no host", a.Host)
	}
	if ip, err := netip.ParseAddr(a.Host); err == nil {
		switch {
		case strings.HasSuffix(a.Network, "4") && !ip.Unmap().Is4():
			return fmt.Errorf("%s is no IPv4 address", a.Host)
		case strings.HasSuffix(a.Network, "6") && ip.Unmap().Is4():
			return fmt.Errorf("%s is no IPv6 address", a.Host)
		}
	}
	return nil
}

func (a *Address) parseOptions(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("options: %v", err)
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value := values[key][0]
		if len(values[key]) > 1 {
			return fmt.Errorf("the option %s is given twice", key)
		}
		if value == "" {
			return fmt.Errorf("the option %s is empty", key)
		}
		switch key {
		case "mode", "user", "group":
			if !onPath(a.Network) {
				return fmt.Errorf("the option %s is for unix and unixgram only", key)
			}
		}
		switch key {
		case "mode":
			mode, err := strconv.ParseUint(value, 8, 32)
			if err != nil || mode > 0o777 || mode == 0 {
				return fmt.Errorf("the mode %q is not an octal number up to 0777", value)
			}
			a.Mode = fs.FileMode(mode)
		case "user":
			a.User = value
		case "group":
			a.Group = value
		case "backlog":
			if datagrams(strings.TrimRight(a.Network, "46")) {
				return fmt.Errorf("the option backlog is not for %s", a.Network)
			}
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || n == 0 {
				return fmt.Errorf("the backlog %q is not a positive number", value)
			}
			a.Backlog = int(n)
		default:
			return fmt.Errorf("the option %q is none of backlog, mode, user, group", key)
		}
	}
	return nil
}

// String is the address with its scheme, without name and options.
func (a Address) String() string {
	if onPath(a.Network) {
		return a.Network + "://" + a.Path
	}
	return a.Network + "://" + net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
}
