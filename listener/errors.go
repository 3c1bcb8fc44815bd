package listener

import (
	"errors"
	"fmt"
)

var (
	// ErrPass says that a bind(2) is none of ours: the kernel's own answer is the right one.
	ErrPass = errors.New("listener: not for a claim")
	// ErrClosed is returned by every method of a closed Set.
	ErrClosed = errors.New("listener: the set is closed")
	// ErrNoLane says that a generation has no lane on any claim.
	ErrNoLane = errors.New("listener: the generation has no lane")
)

// InUseError tells who holds an address that was to be claimed. It unwraps to the system's error,
// so errors.Is(err, syscall.EADDRINUSE) holds.
type InUseError struct {
	Addr    string // the address, as host:port or a path
	Pid     int    // of the holder; 0 when it could not be known
	Command string // name of the holder; empty when it could not be known
	Err     error
}

func (e *InUseError) Error() string {
	switch {
	case e.Pid != 0 && e.Command != "":
		return fmt.Sprintf("listener: %s is held by %s (pid %d)", e.Addr, e.Command, e.Pid)
	case e.Pid != 0:
		return fmt.Sprintf("listener: %s is held by pid %d", e.Addr, e.Pid)
	}
	return fmt.Sprintf("listener: %s is in use", e.Addr)
}

func (e *InUseError) Unwrap() error { return e.Err }
