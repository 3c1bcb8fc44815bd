package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
)

// Start of an Identity is here the time of the process's creation, in 100 ns
// since 1601.

const (
	toSee = windows.SYNCHRONIZE | windows.PROCESS_QUERY_LIMITED_INFORMATION
	toEnd = toSee | windows.PROCESS_TERMINATE
)

// Of identifies the process with that pid. One that has ended is gone, even if
// somebody holds a handle of it.
func Of(pid int) (Identity, error) {
	h, start, err := open(pid, toSee)
	if err != nil {
		return Identity{}, err
	}
	defer windows.CloseHandle(h)
	if ended(h) {
		return Identity{}, fmt.Errorf("process: identify %d: %w", pid, ErrGone)
	}
	return Identity{Pid: pid, Start: start}, nil
}

// open opens a process and tells when it was created.
func open(pid int, rights uint32) (windows.Handle, uint64, error) {
	if pid <= 0 {
		return 0, 0, fmt.Errorf("process: identify %d: %w", pid, ErrGone)
	}
	h, err := windows.OpenProcess(rights, false, uint32(pid))
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		err = ErrGone
	}
	if err != nil {
		return 0, 0, fmt.Errorf("process: OpenProcess %d: %w", pid, err)
	}
	// Ids are multiples of four, and OpenProcess ignores the last two bits.
	if got, err := windows.GetProcessId(h); err != nil || got != uint32(pid) {
		_ = windows.CloseHandle(h)
		return 0, 0, fmt.Errorf("process: OpenProcess %d: %w", pid, ErrGone)
	}
	var created, exited, system, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &system, &user); err != nil {
		_ = windows.CloseHandle(h)
		return 0, 0, fmt.Errorf("process: GetProcessTimes of %d: %w", pid, err)
	}
	return h, uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime), nil
}

func ended(h windows.Handle) bool {
	got, err := windows.WaitForSingleObject(h, 0)
	return err == nil && got == windows.WAIT_OBJECT_0
}

// open opens the very process that id means.
func (id Identity) open(rights uint32) (windows.Handle, error) {
	h, start, err := open(id.Pid, rights)
	if err != nil {
		return 0, err
	}
	if start != id.Start {
		_ = windows.CloseHandle(h)
		return 0, fmt.Errorf("process: %d: %w", id.Pid, ErrGone)
	}
	return h, nil
}

// Self identifies this process.
func Self() (Identity, error) { return Of(os.Getpid()) }

// Alive reports whether the process runs.
func (id Identity) Alive() bool {
	h, err := id.open(toSee)
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED)
	}
	defer windows.CloseHandle(h)
	return !ended(h)
}

// Executable is the path alone: an open executable cannot be replaced here.
func (id Identity) Executable() (Exe, error) {
	h, err := id.open(toSee)
	if err != nil {
		return Exe{}, err
	}
	defer windows.CloseHandle(h)
	path := make([]uint16, windows.MAX_LONG_PATH)
	size := uint32(len(path))
	if err := windows.QueryFullProcessImageName(h, 0, &path[0], &size); err != nil {
		return Exe{}, fmt.Errorf("process: QueryFullProcessImageName of %d: %w", id.Pid, err)
	}
	return Exe{Path: strings.TrimPrefix(windows.UTF16ToString(path[:size]), `\\?\`)}, nil
}

// Pidfd is not supported on this system.
func (id Identity) Pidfd() (*os.File, error) { return nil, unsupported("pidfd") }

// Signal ends the process (KILL), or sends its group the console's CTRL_BREAK
// (TERM, INT), which Go programs receive as os.Interrupt. There are no others.
func (id Identity) Signal(sig syscall.Signal) error {
	h, err := id.open(toEnd)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	if ended(h) {
		return fmt.Errorf("process: signal %d: %w", id.Pid, ErrGone)
	}
	switch sig {
	case 0:
		return nil
	case syscall.SIGKILL:
		err = os.NewSyscallError("TerminateProcess", windows.TerminateProcess(h, 1))
	case syscall.SIGTERM, syscall.SIGINT:
		err = os.NewSyscallError("GenerateConsoleCtrlEvent", windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(id.Pid)))
	default:
		err = unsupported("signal " + sig.String())
	}
	if err != nil {
		return fmt.Errorf("process: signal %d: %w", id.Pid, err)
	}
	return nil
}

// Wait returns when the process has ended, or with the context's error.
func (id Identity) Wait(ctx context.Context) error {
	h, err := id.open(toSee)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	over, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return fmt.Errorf("process: CreateEvent: %w", err)
	}
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		_ = windows.SetEvent(over) // it is open until we have returned
	})
	defer func() {
		if !stop() {
			<-told
		}
		_ = windows.CloseHandle(over) // nobody else has it
	}()
	got, err := windows.WaitForMultipleObjects([]windows.Handle{h, over}, false, windows.INFINITE)
	switch {
	case err != nil:
		return fmt.Errorf("process: WaitForMultipleObjects: %w", err)
	case got == windows.WAIT_OBJECT_0:
		return nil
	}
	return ctx.Err()
}

// Children are not listed: orphans do not land with us here.
func Children() ([]Identity, error) { return nil, unsupported("list children") }

// Sockets are not told by this system.
func (id Identity) Sockets() (map[uint64]struct{}, error) { return nil, unsupported("list sockets") }

// Parent is not told: it may be another process of the same id by now.
func (id Identity) Parent() (int, error) { return 0, unsupported("find the parent") }
