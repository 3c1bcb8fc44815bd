package dialect

// gunicorn is how a gunicorn hands its sockets to its next one. GUNICORN_PID
// names the one that hands over; given its own pid a gunicorn sees at its
// first look that this is not its parent, and calls itself the only one.
type gunicorn struct{}

func (gunicorn) Name() string { return "gunicorn" }

func (gunicorn) Clears() []string { return clears("GUNICORN_FD", "GUNICORN_PID") }

func (gunicorn) Environ(all []Lane, _ int) []Variable {
	l := streams(all)
	if len(l) == 0 {
		return nil // with the pid alone it does not start
	}
	return []Variable{{Key: "GUNICORN_FD", Value: numbers(l, ",")}, {Key: "GUNICORN_PID", Pid: true}}
}
