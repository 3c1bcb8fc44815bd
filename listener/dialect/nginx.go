package dialect

// nginx is how an nginx hands its sockets to its next binary: every number
// followed by ';'. A server that finds the variable does not daemonise, and
// looks its listen directives up by getsockname(2).
type nginx struct{}

func (nginx) Name() string { return "nginx" }

func (nginx) Clears() []string { return clears("NGINX") }

func (nginx) Environ(all []Lane, _ int) []Variable {
	l := sockets(all)
	if len(l) == 0 {
		return nil
	}
	return []Variable{{Key: "NGINX", Value: numbers(l, ";") + ";"}}
}
