package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/upgrader/upgrader/listener"
)

// What --port takes: [u]PORT[=FD] and HOST:[u]PORT[=FD].
const (
	starterPort     = `^\s*(u?)(\d+)(?:\s*=(\d+))?\s*$`
	starterHostPort = `^\s*(?:\[\s*|)([^\]]*)\s*(?:\]\s*|):\s*(u?)(\d+)(?:\s*=(\d+))?\s*$`
)

// parsePort reads one --port. A port alone is one of IPv4, and a host's name
// is looked up there. fd is -1 unless a descriptor was asked for.
func parsePort(spec string, backlog int) (a listener.Address, fd int, err error) {
	fail := func(format string, args ...any) (listener.Address, int, error) {
		return listener.Address{}, -1, fmt.Errorf("invalid ``port'' value:%s: %s", spec, fmt.Sprintf(format, args...))
	}
	var host, udp, port, number string
	if m := regexp.MustCompile(starterPort).FindStringSubmatch(spec); m != nil {
		udp, port, number = m[1], m[2], m[3]
		a.Spec = port
	} else if m := regexp.MustCompile(starterHostPort).FindStringSubmatch(spec); m != nil {
		host, udp, port, number = strings.TrimSpace(m[1]), m[2], m[3], m[4]
		if host == "" {
			return fail("the host is missing")
		}
		a.Spec = net.JoinHostPort(host, port)
	} else {
		return fail("want port, host:port, port=fd or host:port=fd")
	}
	a.Host, a.Network = host, "tcp"
	if udp != "" {
		a.Network = "udp"
	} else {
		a.Backlog = backlog
	}
	if strings.Contains(host, ":") {
		a.Network += "6"
	} else {
		a.Network += "4"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fail("a port is 65535 at most")
	}
	a.Port = int(n)
	if fd = -1; number != "" {
		n, err := strconv.ParseUint(number, 10, 20)
		if err != nil {
			return fail("%s is no descriptor", number)
		}
		fd = int(n)
	}
	return a, fd, nil
}

// parsePath reads one --path. Everybody may connect, as there.
func parsePath(path string, backlog int) (listener.Address, error) {
	fail := func(err error) (listener.Address, error) {
		return listener.Address{}, fmt.Errorf("failed to listen to file %s: %w", path, err)
	}
	if path == "" {
		return fail(errors.New("it is empty"))
	}
	if strings.ContainsAny(path, ";=?") || strings.Contains(path, "://") || strings.HasPrefix(path, "unix:") {
		return fail(errors.New("SERVER_STARTER_PORT cannot carry such a name"))
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return fail(err)
	}
	a, err := listener.ParseAddress("unix://" + absolute)
	if err != nil {
		return fail(err)
	}
	a.Spec, a.Backlog, a.Mode = path, backlog, 0o777
	return a, nil
}
