package dialect

import "strconv"

// catflap is one socket and its number: catflap, and whatever takes a number
// from LISTEN_FD. It knows no second one.
type catflap struct{}

func (catflap) Name() string { return "catflap" }

func (catflap) Clears() []string { return clears("LISTEN_FD") }

func (catflap) Environ(all []Lane, _ int) []Variable {
	l := sockets(all)
	if len(l) == 0 {
		return nil
	}
	return []Variable{{Key: "LISTEN_FD", Value: strconv.Itoa(l[0].Fd)}}
}
