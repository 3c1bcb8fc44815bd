package dialect

import "strconv"

// einhorn is Stripe's einhorn: a count and a variable for each descriptor, and
// the older list of all of them. EINHORN_MASTER_PID and EINHORN_SOCK_PATH, by
// which a worker acks, are for whoever starts it to set: see notify.Acks.
type einhorn struct{}

func (einhorn) Name() string { return "einhorn" }

func (einhorn) Clears() []string {
	return clears("EINHORN_FD_COUNT", "EINHORN_FD_*", "EINHORN_FDS",
		"EINHORN_MASTER_PID", "EINHORN_SOCK_PATH", "EINHORN_SOCK_FD", "EINHORN_CHILD_INDEX")
}

func (einhorn) Environ(all []Lane, _ int) []Variable {
	l := sockets(all)
	out := []Variable{
		{Key: "EINHORN_FD_COUNT", Value: strconv.Itoa(len(l))},
		{Key: "EINHORN_FDS", Value: numbers(l, " ")},
	}
	for i := range l {
		out = append(out, Variable{Key: "EINHORN_FD_" + strconv.Itoa(i), Value: strconv.Itoa(l[i].Fd)})
	}
	return out
}
