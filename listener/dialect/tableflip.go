package dialect

import (
	"slices"
	"strings"
)

// tableflip is how a program that uses Cloudflare's tableflip library hands its
// sockets to its next one: a pipe to say "ready" on at descriptor 3, a pipe
// with the sockets' names at 4 (see FlipNames), the sockets from 5 on.
type tableflip struct{}

// flipFirst is the number of the first socket.
const flipFirst = 5

func (tableflip) Name() string { return "tableflip" }

func (tableflip) Clears() []string { return clears() }

func (tableflip) Environ([]Lane, int) []Variable {
	return []Variable{{Key: "TABLEFLIP_HAS_PARENT_7DIU3", Value: "yes"}}
}

// Flips reports whether tableflip is among the dialects.
func Flips(dialects []Dialect) bool { return slices.Contains(dialects, Dialect(tableflip{})) }

// First is the number of the first descriptor that is passed: FirstFd, unless a
// dialect keeps that for something else.
func First(dialects []Dialect) int {
	if Flips(dialects) {
		return flipFirst
	}
	return FirstFd
}

// FlipNames are the kind, network and address of each socket, as the server's
// own Listen(network, address) has to spell them.
func FlipNames(all []Lane) [][]string {
	names := [][]string{}
	for _, l := range sockets(all) {
		a, name := split(l), []string{"listener", l.Network, ""}
		if name[2] = a.path; a.path == "" {
			name[2] = a.join()
		}
		if l.Network == "unixgram" || strings.HasPrefix(l.Network, "udp") {
			name[0] = "packet"
		}
		names = append(names, name)
	}
	return names
}
