package main

import (
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/upgrader/upgrader/integration/load"
)

// port is where every server listens: each row has a network of its own.
const port = 8080

const (
	overlap   = "overlap"
	exclusive = "exclusive"
)

// server is somebody else's server in one manner of running it.
type server struct {
	name     string
	tools    []string // what it needs, names or paths
	version  []string // a command that tells
	strategy string   // "": overlap
	signal   string   // asks it to quit; "": TERM
	fallback bool     // its binds cannot be taken over: swaps roll back

	guest   []string                                             // arguments of the guest, for servers that it plays
	command func(ctx context.Context, p place) ([]string, error) // of the others: makes its files and gives the command
	flags   func(p place) []string                               // further ones of the upgrader
	wrapper func(p place) ([]string, error)                      // what runs the upgrader
	note    func(pid int) string                                 // looks at the server that served last
	loads   []kind
}

// runs reports whether a server has a row of that way: what needs something around the upgrader, or is looked at from
// outside by its pid, has none in a container.
func (s server) runs(way string) bool {
	return way != inContainer || s.wrapper == nil && s.note == nil
}

// missing names the first tool that is not there.
func (s server) missing() string {
	for _, tool := range s.tools {
		if find(tool) == "" {
			return filepath.Base(tool)
		}
	}
	return ""
}

// find looks a tool up where any user can run it, also in Debian's folder of
// PostgreSQL's programs.
func find(tool string) string {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, tool)); err == nil {
			return path
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + tool) // the pattern is right
	if len(found) > 0 {
		return found[len(found)-1]
	}
	if path, err := exec.LookPath(tool); err == nil {
		return path
	}
	return ""
}

// tells asks for the version.
func (s server) tells(ctx context.Context) string {
	if s.version == nil {
		return ""
	}
	out, _ := exec.CommandContext(ctx, find(s.version[0]), s.version[1:]...).CombinedOutput() // some exit with 1
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// prepare makes what the server needs, and gives its command.
func (s server) prepare(ctx context.Context, p place) ([]string, error) {
	if s.guest != nil {
		return append([]string{p.guest}, s.guest...), nil
	}
	return s.command(ctx, p)
}

// web are the loads on an HTTP server.
func web() []kind {
	return []kind{
		{name: newConnections, config: load.Config{Address: address, Clients: 8, PerConnection: 1, Rate: 200}},
		{name: keepAlive, config: load.Config{Address: address, Clients: 4, Rate: 40}},
	}
}

// spokenTo are the loads on a server of another protocol.
func spokenTo(s speaker, clients int, rate float64) []kind {
	return []kind{
		{name: newConnections, speak: s, config: load.Config{Protocol: load.Lines, Address: address, Clients: clients, PerConnection: 1, Rate: rate}},
		{name: keepAlive, speak: s, config: load.Config{Protocol: load.Lines, Address: address, Clients: 4, Rate: 40}},
	}
}

const address = "127.0.0.1:8080"

// without takes one load out.
func without(kinds []kind, name string) []kind {
	return slices.DeleteFunc(kinds, func(k kind) bool { return k.name == name })
}

//go:embed testdata/asio.cpp
var asio string

// servers are all of them.
func servers() []server {
	all := slices.Concat(databases(), webServers(), guests(), hindered()) // those that take longest first
	for i := range all {
		if all[i].strategy == "" {
			all[i].strategy = overlap
		}
		if all[i].signal == "" {
			all[i].signal = "TERM"
		}
		if all[i].loads == nil {
			all[i].loads = web()
		}
	}
	return all
}

// guests are Go servers.
func guests() []server {
	udp := kind{name: datagrams, config: load.Config{Protocol: load.UDP, Address: address, Clients: 4, PerConnection: 10, Rate: 100}}
	return []server{
		{name: "Go, Shutdown", guest: []string{"-http", address}},
		{name: "Go, dies of TERM", guest: []string{"-http", address, "-die-at-term"}},
		{name: "Go, dual stack", guest: []string{"-http", fmt.Sprintf(":%d", port)}},
		{name: "Go, Shutdown, exclusive", guest: []string{"-http", address}, strategy: exclusive},
		{name: "Go, TCP and UDP", guest: []string{"-http", address, "-udp", address}, loads: append(web(), udp)},
		{name: "Go, UDP alone", guest: []string{"-udp", address}, loads: []kind{udp}},
		{name: "Go, daemonises", guest: []string{"-http", address, "-daemonise"}},
		{name: "Go, serves in a child", guest: []string{"-http", address, "-fork", "1"}},
	}
}
