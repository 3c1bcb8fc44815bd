package upgrader

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/upgrader/launch"
)

// statusOf takes the status of an orphan that landed with us and has ended;
// nil when that is not ours to know.
func statusOf(pid int) *launch.Status {
	var status unix.WaitStatus
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	switch {
	case err != nil || got != pid:
		return nil
	case status.Signaled():
		return &launch.Status{Signal: syscall.Signal(status.Signal())}
	default:
		return &launch.Status{Code: status.ExitStatus()}
	}
}
