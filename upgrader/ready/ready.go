package ready

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"
)

// ErrTold is what Run and Once answer for the kinds that nobody can ask for:
// auto, notify and listen.
var ErrTold = errors.New("ready: the server itself tells this, there is nothing to ask")

// A Lane is the successor's own lane.
type Lane interface {
	// Probe makes a connection that only the successor can get and returns
	// nil once it was accepted. It returns by the end of ctx.
	Probe(ctx context.Context) error
}

// Options is what probes need to know of the one that they ask. A nil *Options
// is the zero value.
type Options struct {
	Lane Lane // of Accept; nil: Accept is an error

	// Dial makes the connections of TCP and HTTP: to reach the successor and
	// not its predecessor at the same address. nil: as anybody.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Dir string   // where commands run; "": our own
	Env []string // their environment; nil: our own

	// Start starts a command that was prepared, for those who need to know
	// every child of this process. nil: c.Start.
	Start func(c *exec.Cmd) error
}

// try is one attempt. It returns by the end of ctx.
type try func(ctx context.Context) error

// Run waits until spec holds. It returns nil then, and an error that wraps
// ctx's when ctx ends before, with the reason of the last attempt. An error
// that no waiting mends ends it at once.
func Run(ctx context.Context, spec Spec, o *Options) error {
	if spec.Kind == Delay {
		return wrap(spec, sleep(ctx, spec.Delay))
	}
	t, p, err := prepare(spec, o)
	if err != nil {
		return err
	}
	return wrap(spec, poll(ctx, t, p))
}

// Once makes one attempt: a health check. Delay always holds.
func Once(ctx context.Context, spec Spec, o *Options) error {
	if spec.Kind == Delay {
		return wrap(spec, ctx.Err())
	}
	t, p, err := prepare(spec, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.each)
	defer cancel()
	return wrap(spec, t(ctx))
}

// prepare gives the attempt for spec and how it is repeated.
func prepare(spec Spec, o *Options) (try, pace, error) {
	if o == nil {
		o = &Options{}
	}
	network := pace{first: 10 * time.Millisecond, most: 250 * time.Millisecond, each: 5 * time.Second}
	switch spec.Kind {
	case "", Auto, Notify, Listen:
		return nil, pace{}, fmt.Errorf("%w: %s", ErrTold, spec)
	case Accept:
		if o.Lane == nil {
			return nil, pace{}, errors.New("ready: accept: there is no lane to connect to")
		}
		return o.Lane.Probe, network, nil
	case TCP:
		return tcpTry(spec.Address, o), network, nil
	case HTTP:
		return httpTry(spec.URL, o), network, nil
	case Exec:
		// A command may well look for a second or two; a process each 10 ms
		// would cost more than it tells.
		return execTry(spec.Command, o), pace{first: 100 * time.Millisecond, most: time.Second, each: 30 * time.Second}, nil
	}
	return nil, pace{}, fmt.Errorf("ready: %q is not known: %s", spec.Kind, usage)
}

func wrap(spec Spec, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("ready: %s: %w", spec, err)
}
