package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// The exit statuses of our own; others are the server's.
const (
	exitUsage  = 100
	exitSystem = 111
)

func main() {
	if len(os.Args) > 0 && calledStarter(os.Args[0]) {
		os.Exit(status(startServer(os.Args[1:], os.Stdout)))
	}
	os.Exit(run(os.Args[1:]))
}

// An exit is an error that ends the process with a status of its own.
type exit struct {
	code int
	err  error // nil: nothing is printed
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// run runs the command line and gives the exit status.
func run(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	return status(root.Execute())
}

// status tells of err, and gives the exit status that stands for it.
func status(err error) int {
	var e *exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		if e.err != nil {
			complain(e.err)
		}
		return e.code
	default: // cobra's own: flags and names that do not exist
		complain(err)
		return exitUsage
	}
}

// complain prints an error on one line, the way out included.
func complain(err error) {
	fmt.Fprintf(os.Stderr, "upgrader: %s\n", plain(oneLine(err.Error())))
}

// inside are words that errors bring along from our packages: nothing to whoever
// runs a command.
var inside = []string{"upgrader", "usage", "control", "launch", "listener", "process", "ready", "self", "shmbridge", "state"}

// plain is an error's text without the names of our packages, which stand in
// front of it, or behind the flag that it is about.
func plain(text string) string {
	var kept []string
	parts := strings.Split(text, ": ")
	for i, part := range parts {
		if !slices.Contains(inside, part) {
			kept = append(kept, part)
			if !strings.HasPrefix(part, "--") && !strings.HasPrefix(part, "UPGRADER_") {
				return strings.Join(append(kept, parts[i+1:]...), ": ")
			}
		}
	}
	return text
}
