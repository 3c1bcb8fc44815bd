package dialect

import "strconv"

// puma is how a puma hands its sockets to its next one: PUMA_INHERIT_i=FD:URL.
// It looks its bind lines up by that URL as a string and closes (and unlinks)
// what it does not find, so a claim must be spelled as the bind line is.
type puma struct{}

func (puma) Name() string { return "puma" }

func (puma) Clears() []string { return clears("PUMA_INHERIT_*") }

func (puma) Environ(all []Lane, _ int) []Variable {
	var out []Variable
	for i, l := range streams(all) {
		out = append(out, Variable{Key: "PUMA_INHERIT_" + strconv.Itoa(i), Value: strconv.Itoa(l.Fd) + ":" + pumaURL(l)})
	}
	return out
}

// pumaURL is the bind line of puma for l. Without a host it is the one that
// puma's own --port makes.
func pumaURL(l Lane) string {
	a := split(l)
	if a.path != "" {
		return "unix://" + a.path
	}
	if a.host == "" {
		if a.host = "0.0.0.0"; l.Network == "tcp6" {
			a.host = "::"
		}
	}
	return "tcp://" + a.join()
}
