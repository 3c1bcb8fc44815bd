package process

import "errors"

var (
	// ErrGone: the process that was meant has ended (a zombie has).
	ErrGone = errors.New("process is gone")
	// ErrNoCgroup: no cgroup of our own can be made here; errors that match it say why.
	ErrNoCgroup = errors.New("no cgroup can be made")
)

// Identity is a process beyond doubt, for as long as the system runs: a pid is used again, a pid with its start
// time is not.
type Identity struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot (field 22 of /proc/PID/stat)
}

// Exe is the file that a process executes.
type Exe struct {
	Path    string `json:"path"` // as it was when executed, without the kernel's " (deleted)"
	Dev     uint64 `json:"dev"`
	Ino     uint64 `json:"ino"`
	Deleted bool   `json:"deleted,omitempty"` // no name leads to it any more, as far as the kernel knows
}
