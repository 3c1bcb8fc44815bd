package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// dialIdle is how long a thread waits in a network namespace for more to do.
const dialIdle = time.Second

// dial is a connection that is wanted.
type dial struct {
	ctx              context.Context
	network, address string
	result           chan dialled
}

type dialled struct {
	conn net.Conn
	err  error
}

// DialIn makes connections from within the network namespace of a process.
func DialIn(pid int) func(ctx context.Context, network, address string) (net.Conn, error) {
	wanted := make(chan dial)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := dial{ctx, network, address, make(chan dialled, 1)}
		select {
		case wanted <- d: // to a thread that is there
		default:
			go elsewhere(func() { dialFrom(pid, d, wanted) })
		}
		r := <-d.result
		return r.conn, r.err
	}
}

// dialFrom serves first, and whatever is wanted soon after, on a thread that is elsewhere. That one never comes back to our
// network, so there is nothing that could fail to.
func dialFrom(pid int, first dial, wanted <-chan dial) {
	theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err == nil {
		err = errors.Join(unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET), theirs.Close())
	}
	if err != nil {
		first.result <- dialled{err: err}
		return
	}
	idle := time.NewTimer(dialIdle)
	defer idle.Stop()
	for d := first; ; {
		// One address and one attempt: the socket is made on this thread.
		conn, err := (&net.Dialer{FallbackDelay: -1}).DialContext(d.ctx, d.network, d.address)
		d.result <- dialled{conn, err}
		idle.Reset(dialIdle)
		select {
		case d = <-wanted:
		case <-idle.C:
			return
		}
	}
}
