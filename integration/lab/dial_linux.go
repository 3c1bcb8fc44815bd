package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// DialIn makes connections from within the network namespace of a process.
func DialIn(pid int) func(ctx context.Context, network, address string) (net.Conn, error) {
	type dialled struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		result := make(chan dialled, 1)
		// A goroutine of its own, whose thread ends with it: it never comes back
		// to our network, so there is nothing that could fail to.
		go func() {
			runtime.LockOSThread()
			theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
			if err == nil {
				err = errors.Join(unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET), theirs.Close())
			}
			var conn net.Conn
			if err == nil {
				// One address and one attempt: the socket is made on this thread.
				conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
			}
			result <- dialled{conn, err}
		}()
		d := <-result
		return d.conn, d.err
	}
}
