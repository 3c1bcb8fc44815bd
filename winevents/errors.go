package winevents

import (
	"errors"
	"fmt"
)

// What an error of this package may wrap. A name or a process that this user
// may not open is fs.ErrPermission.
var (
	ErrUnsupported     = errors.New("named events are supported on Windows only")
	ErrNoProcess       = errors.New("no such process")
	ErrNotProved       = errors.New("the process is not proved to be the one meant")
	ErrOtherKind       = errors.New("the name belongs to another kind of object")
	ErrBusy            = errors.New("somebody else is asking this server already")
	ErrSuperseded      = errors.New("the pid file names another process by now")
	ErrPidFile         = errors.New("no process id in the pid file")
	ErrServicesRunning = errors.New("the services have not stopped in time")
)

// AskError is what [Ask] returns.
type AskError struct {
	Pid       int  // 0 as long as it was not known
	Signalled bool // the server may have seen Kill: it will stop, whatever happened here
	Err       error
}

func (e *AskError) Error() string {
	if e.Pid == 0 {
		return fmt.Sprintf("winevents: ask: %v", e.Err)
	}
	if e.Signalled {
		return fmt.Sprintf("winevents: ask process %d (it has been told to quit): %v", e.Pid, e.Err)
	}
	return fmt.Sprintf("winevents: ask process %d: %v", e.Pid, e.Err)
}

func (e *AskError) Unwrap() error { return e.Err }
