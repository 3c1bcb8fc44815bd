package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// sockets are the descriptors that a dialect left in the environment.
type sockets struct {
	files []named
}

type named struct {
	name  string
	file  *os.File
	taken bool
}

// newSockets reads the environment as a server of that dialect does: strictly.
func newSockets(dialect string) (*sockets, error) {
	s := &sockets{}
	add := func(name, number string) error {
		fd, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("descriptor %q: %w", number, err)
		}
		s.files = append(s.files, named{name: name, file: os.NewFile(uintptr(fd), name)})
		return nil
	}
	switch dialect {
	case "systemd":
		return s, s.systemd()
	case "server-starter":
		for _, entry := range fields(os.Getenv("SERVER_STARTER_PORT"), ";") {
			name, number, _ := strings.Cut(entry, "=")
			if err := add(name, number); err != nil {
				return nil, err
			}
		}
	case "einhorn":
		if ppid := os.Getenv("EINHORN_MASTER_PID"); ppid != strconv.Itoa(os.Getppid()) {
			return nil, fmt.Errorf("EINHORN_MASTER_PID is %q, our parent is %d", ppid, os.Getppid())
		}
		n, err := strconv.Atoi(os.Getenv("EINHORN_FD_COUNT"))
		if err != nil {
			return nil, fmt.Errorf("EINHORN_FD_COUNT: %w", err)
		}
		for i := range n {
			if err := add("", os.Getenv(fmt.Sprintf("EINHORN_FD_%d", i))); err != nil {
				return nil, err
			}
		}
	case "nginx":
		for _, number := range fields(os.Getenv("NGINX"), ";") {
			if err := add("", number); err != nil {
				return nil, err
			}
		}
	case "listen-fd":
		if number := os.Getenv("LISTEN_FD"); number != "" {
			return s, add("", number)
		}
	default:
		return nil, fmt.Errorf("no such dialect: %s", dialect)
	}
	return s, nil
}

// systemd is sd_listen_fds_with_names(3): LISTEN_PID must be ours.
func (s *sockets) systemd() error {
	if os.Getenv("LISTEN_FDS") == "" {
		return nil
	}
	// A worker inherits what its parent proved to be for it.
	if pid := os.Getenv("LISTEN_PID"); pid != strconv.Itoa(os.Getpid()) && os.Getenv("GUEST_WORKER") == "" {
		return fmt.Errorf("LISTEN_PID is %q, we are %d", pid, os.Getpid())
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil {
		return fmt.Errorf("LISTEN_FDS: %w", err)
	}
	names := fields(os.Getenv("LISTEN_FDNAMES"), ":")
	if len(names) != 0 && len(names) != n {
		return fmt.Errorf("LISTEN_FDNAMES has %d names for %d descriptors", len(names), n)
	}
	for i := range n {
		name := "unknown"
		if len(names) > 0 {
			name = names[i]
		}
		s.files = append(s.files, named{name: name, file: os.NewFile(uintptr(3+i), name)})
	}
	return nil
}

func fields(s, separator string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(separator, r) })
}

// take gives the descriptor that an address of the form env or env:NAME means.
func (s *sockets) take(address string) (*os.File, error) {
	_, name, byName := strings.Cut(address, ":")
	for i := range s.files {
		f := &s.files[i]
		if !f.taken && (!byName || f.name == name) {
			f.taken = true
			return f.file, nil
		}
	}
	if byName {
		return nil, fmt.Errorf("the environment holds no socket named %q", name)
	}
	return nil, fmt.Errorf("the environment holds %d sockets, one more is needed", len(s.files))
}

func fromEnvironment(address string) bool {
	return address == "env" || strings.HasPrefix(address, "env:")
}

// listen gives the listener that address means.
func (s *sockets) listen(address string, unlink bool) (net.Listener, error) {
	if fromEnvironment(address) {
		f, err := s.take(address)
		if err != nil {
			return nil, err
		}
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		_ = f.Close() // FileListener has its own duplicate
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(unlink)
		}
		return l, nil
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		_ = os.Remove(path) // as servers do: what lies there is theirs
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, err
		}
		l.(*net.UnixListener).SetUnlinkOnClose(unlink)
		return l, nil
	}
	return net.Listen("tcp", address)
}

// listenPacket gives the datagram socket that address means.
func (s *sockets) listenPacket(address string) (net.PacketConn, error) {
	if !fromEnvironment(address) {
		return (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", address)
	}
	f, err := s.take(address)
	if err != nil {
		return nil, err
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("receive on %s: %w", address, err)
	}
	_ = f.Close() // FilePacketConn has its own duplicate
	return c, nil
}
