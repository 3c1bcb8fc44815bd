package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNobody is what a server gets that nobody listens to: NOTIFY_SOCKET is not
// set.
var ErrNobody = errors.New("notify: NOTIFY_SOCKET is not set")

// sendTime is how long a message may take when the receiver's queue is full.
const sendTime = 5 * time.Second

// Send says state (lines of KEY=VALUE) to whoever started this server, with
// files if there are any: at most 253, which stay the caller's.
func Send(state string, files ...syscall.Conn) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return ErrNobody
	}
	if err := send(path, state, files); err != nil {
		return fmt.Errorf("notify: send: %w", err)
	}
	return nil
}

// Ready says READY=1.
func Ready() error { return Send("READY=1") }

// Park gives a duplicate of c, a connection or a file, to whoever started this
// server, who keeps it open and passes it to the successor: see Parked. c
// stays the caller's. A connection that is parked does not end when the
// server closes it: Unpark it first.
func Park(name string, c syscall.Conn) error {
	if !ValidName(name) {
		return fmt.Errorf("notify: park: %q is no name for a descriptor", name)
	}
	return Send("FDSTORE=1\nFDNAME="+name, c)
}

// Unpark has everything closed that is parked under name.
func Unpark(name string) error {
	if !ValidName(name) {
		return fmt.Errorf("notify: unpark: %q is no name for a descriptor", name)
	}
	return Send("FDSTOREREMOVE=1\nFDNAME=" + name)
}

// Barrier waits until everything that was sent before it has been handled.
func Barrier(ctx context.Context) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return ErrNobody
	}
	return barrier(ctx, path)
}

// Flush waits until everything that lies in the queue has been handled: senders that are gone by now may
// have left something there. Run must be running.
func (s *Socket) Flush(ctx context.Context) error { return barrier(ctx, s.path) }

func barrier(ctx context.Context, path string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("notify: barrier: %w", err)
	}
	defer r.Close()
	err = send(path, "BARRIER=1", []syscall.Conn{w})
	_ = w.Close() // nothing was written; the receiver has the only other one
	if err != nil {
		return fmt.Errorf("notify: barrier: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })()
	if _, err := r.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("notify: barrier: %w", context.Cause(ctx))
	}
	return nil // its end was closed
}

// taken is the name that is left in LISTEN_FDNAMES where a descriptor was.
const taken = "taken"

// Parked takes what a predecessor parked under name out of what was passed to
// this process (LISTEN_FDS), and gives it: the caller closes it. A second call
// finds nothing. In the place of each /dev/null is left, so that the numbers
// of the others stay right.
func Parked(name string) ([]*os.File, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil // not meant for this process
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	if err != nil || n < 0 || n != len(names) {
		return nil, fmt.Errorf("notify: parked: LISTEN_FDS=%q does not go with LISTEN_FDNAMES=%q", os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES"))
	}
	var files []*os.File
	for i := range names {
		if names[i] != name || name == taken {
			continue
		}
		f, err := takeFd(firstFd + i)
		if err != nil {
			return files, fmt.Errorf("notify: parked: descriptor %d: %w", firstFd+i, err)
		}
		files = append(files, f)
		names[i] = taken
		if err := os.Setenv("LISTEN_FDNAMES", strings.Join(names, ":")); err != nil {
			return files, fmt.Errorf("notify: parked: %w", err)
		}
	}
	return files, nil
}

// firstFd is the number of the first descriptor that is passed
// (SD_LISTEN_FDS_START).
const firstFd = 3
