package dialect

// unicorn is how a unicorn hands its sockets to its next one; it looks its
// listen lines up by getsockname(2).
type unicorn struct{}

func (unicorn) Name() string { return "unicorn" }

func (unicorn) Clears() []string { return clears("UNICORN_FD") }

func (unicorn) Environ(all []Lane, _ int) []Variable {
	l := streams(all)
	if len(l) == 0 {
		return nil
	}
	return []Variable{{Key: "UNICORN_FD", Value: numbers(l, ",")}}
}
