package dialect

import (
	"fmt"
	"strconv"
	"strings"
)

// serverStarter is the protocol of Server::Starter (start_server): NAME=FD
// joined by ';', where NAME is what --port or --path said. A server without
// sockets finds the variable set and empty.
type serverStarter struct{}

func (serverStarter) Name() string { return "server-starter" }

func (serverStarter) Clears() []string { return clears() }

// check refuses what clients would misread: they split at ';' and at the first
// '=', and know no escape.
func (serverStarter) check(l Lane) error {
	if name := starterName(l); !l.Stored && strings.ContainsAny(name, ";=\x00") {
		return fmt.Errorf("%q cannot be written in SERVER_STARTER_PORT, which knows no ';' and no '=' in a path", name)
	}
	return nil
}

func (d serverStarter) Environ(all []Lane, generation int) []Variable {
	var entries []string
	for _, l := range sockets(all) {
		if d.check(l) == nil {
			entries = append(entries, starterName(l)+"="+strconv.Itoa(l.Fd))
		}
	}
	return []Variable{
		{Key: "SERVER_STARTER_PORT", Value: strings.Join(entries, ";")},
		{Key: "SERVER_STARTER_GENERATION", Value: strconv.Itoa(generation)},
	}
}

// starterName is the name that start_server would give the socket: PORT,
// HOST:PORT, [HOST]:PORT or the path. A datagram socket is named as a stream
// socket of the same address is, as there.
func starterName(l Lane) string {
	a := split(l)
	switch {
	case a.path != "":
		return a.path
	case a.host == "":
		return a.port
	default:
		return a.join()
	}
}
