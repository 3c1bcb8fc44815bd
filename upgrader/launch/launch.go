package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Exit codes of a command that never ran, as shells give them.
const (
	CodeNotExecutable = 126
	CodeNotFound      = 127
)

var (
	// ErrNotFound: the command file, or the interpreter that it names, does not exist (exit code 127).
	ErrNotFound = errors.New("command not found")
	// ErrDirectory: the command file is a directory (exit code 126).
	ErrDirectory = errors.New("command is a directory")
	// ErrNotExecutable: the command file exists and may not be executed (exit code 126).
	ErrNotExecutable = errors.New("command is not executable")
	// ErrFilter: the seccomp filter could not be installed, for whatever reason. The command may be started without it.
	ErrFilter = errors.New("seccomp filter not installed")
	// ErrFilterBusy: as ErrFilter, because a filter that we inherited has a listener already (one is allowed in a chain).
	ErrFilterBusy = errors.New("an outer seccomp listener exists")
	// ErrShimDied: the shim went away before it could carry out its order.
	ErrShimDied = errors.New("launch shim died")
)

// Steps of a launch, as ExecError.Step names them.
const (
	StepReceive     = "receive"
	StepGroup       = "setpgid"
	StepTerminal    = "tcsetpgrp"
	StepCgroup      = "cgroup"
	StepDescriptors = "descriptors"
	StepFilter      = "filter"
	StepSetgroups   = "setgroups"
	StepSetgid      = "setgid"
	StepSetuid      = "setuid"
	StepChdir       = "chdir"
	StepSignals     = "signals"
	StepDeathSignal = "pdeathsig"
	StepExec        = "exec"
)

// Order says how a command is started. The zero value of each field but Path and Args is sensible.
type Order struct {
	// Path of the command file, as execve(2) takes it: no search in PATH; a relative one is relative to Dir.
	Path string
	// Held, when not nil, is executed instead of Path (execveat(2) of the descriptor; lent until New returns).
	// It must be a binary: the kernel cannot run a script from a descriptor that is closed on exec.
	Held *os.File
	// Args with the name of the program first. Empty: Path alone.
	Args []string
	// Env is the whole environment, as KEY=VALUE.
	Env []string
	// Dir is the working directory; empty: the one of this process.
	Dir string

	// Files are lent until New returns. Numbers 0 to 2 that are not among them are inherited from this process.
	// No other descriptor reaches the command.
	Files []Passed

	// PidVariables are the names of environment variables that are set to the pid of the command (LISTEN_PID).
	PidVariables []string
	// PidfdVariables are set to the inode number of the command's pidfd (LISTEN_PIDFDID), which identifies it
	// for as long as the system runs; they are removed where the kernel has none (before Linux 6.9).
	PidfdVariables []string

	// Uid and Gid; nil: unchanged. Groups are the supplementary groups, set only when Uid or Gid is.
	Uid, Gid *uint32
	Groups   []uint32
	// Umask; nil: unchanged.
	Umask *int

	// OwnGroup puts the command into a process group of its own.
	OwnGroup bool
	// Terminal, when not nil, gets the command's group as its foreground group (lent until New returns).
	Terminal *os.File
	// Cgroup is a cgroup v2 directory that the command enters; empty: none. On Windows it is the name of the job
	// object that is made for the command, which is in one in any case.
	Cgroup string
	// Handles are inherited under their own numbers; only Windows has such. They are inheritable, and lent until
	// Exec returns.
	Handles []uintptr
	// Suspended, when not nil, is called when the command has a process, before that runs; its error ends it. Only
	// Windows has such a moment.
	Suspended func(pid int) error

	// DieWithParent has the command killed when this process ends, however it ends.
	DieWithParent bool

	// Ignore are the signals that the command finds ignored; all others are at their default. Nil: HUP and INT
	// if this process ignores them at the time of New, as nohup(1) means it. A program that handles HUP itself
	// asks Ignored when it starts and passes the answer here.
	Ignore []syscall.Signal
}

// Filter is a seccomp program that is installed before the exec; its listener is Child.Notify. Without instructions there is none.
type Filter struct {
	Program []Instruction
	// Flags are SECCOMP_FILTER_FLAG_ bits in addition to NEW_LISTENER, SPEC_ALLOW and (where the kernel
	// knows it) WAIT_KILLABLE_RECV.
	Flags int
}

// Passed is a descriptor that the command gets at Number.
type Passed struct {
	File   *os.File
	Number int
}

// ExecError is a launch that failed before the command ran: the step, what it was about, and the cause
// (a syscall.Errno where a system call failed).
type ExecError struct {
	Step string
	Path string
	Err  error
}

func (e *ExecError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("launch: %s: %v", e.Step, e.Err)
	}
	return fmt.Sprintf("launch: %s %s: %v", e.Step, e.Path, e.Err)
}

func (e *ExecError) Unwrap() error { return e.Err }

// Is makes the sentinels of this package match.
func (e *ExecError) Is(target error) bool {
	switch target {
	case ErrFilter:
		return e.Step == StepFilter
	case ErrFilterBusy:
		return e.Step == StepFilter && errors.Is(e.Err, syscall.EBUSY)
	case ErrNotFound:
		return e.Step == StepExec && missing(e.Err)
	case ErrNotExecutable:
		return e.Step == StepExec && !missing(e.Err)
	}
	return false
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// ExitCode is the code that stands for err: 127 for a command that was not found, 126 for one that could not be
// executed, 0 for any other error.
func ExitCode(err error) int {
	switch {
	case errors.Is(err, ErrNotFound):
		return CodeNotFound
	case errors.Is(err, ErrNotExecutable), errors.Is(err, ErrDirectory):
		return CodeNotExecutable
	}
	return 0
}

// Status is how a command ended.
type Status struct {
	// Code is the exit code, 0 to 255; meaningless when Signal is not 0.
	Code int
	// Signal that ended the command; 0: it exited.
	Signal syscall.Signal
	// CoreDumped says that a core image was written.
	CoreDumped bool
	// User and System are the processor time of the command and of its children that were waited for.
	User, System time.Duration
}

// Success reports whether the command exited with 0.
func (s Status) Success() bool { return s.Signal == 0 && s.Code == 0 }

// ExitCode is Code, or 128+n for a command ended by signal n.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

func (s Status) String() string {
	switch {
	case s.Signal != 0 && s.CoreDumped:
		return "signal: " + s.Signal.String() + " (core dumped)"
	case s.Signal != 0:
		return "signal: " + s.Signal.String()
	}
	return "exit status " + strconv.Itoa(s.Code)
}
