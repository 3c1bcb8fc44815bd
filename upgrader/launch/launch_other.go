//go:build !linux && !windows

package launch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// start starts the command by way of os.StartProcess.
func start(o Order) (*Child, error) {
	for field, asked := range map[string]bool{
		"cgroup": o.Cgroup != "", "umask": o.Umask != nil, "death with the parent": o.DieWithParent,
		"held file": o.Held != nil, "ignored signals": len(o.Ignore) > 0,
	} {
		if asked {
			return nil, &ExecError{Step: StepReceive, Path: o.Path, Err: fmt.Errorf("%s: %w on this system", field, errors.ErrUnsupported)}
		}
	}
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	for _, p := range o.Files {
		if p.Number < 0 || p.Number > 1<<16 {
			return nil, &ExecError{Step: StepDescriptors, Err: fmt.Errorf("number %d: %w", p.Number, os.ErrInvalid)}
		}
		if grow := p.Number + 1 - len(files); grow > 0 {
			files = append(files, slices.Repeat([]*os.File{nil}, grow)...)
		}
		files[p.Number] = p.File
	}
	sys, err := attributes(o)
	if err != nil {
		return nil, &ExecError{Step: StepReceive, Path: o.Path, Err: err}
	}
	if len(o.Args) == 0 {
		o.Args = []string{o.Path}
	}
	env := []string{} // not nil, which would mean our own
	for _, v := range o.Env {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(o.PidfdVariables, name) && !slices.Contains(o.PidVariables, name) {
			env = append(env, v)
		}
	}
	if len(o.PidVariables) > 0 {
		if o.Path, o.Args, err = withPid(o); err != nil {
			return nil, &ExecError{Step: StepReceive, Path: o.Path, Err: err}
		}
	}
	process, err := os.StartProcess(o.Path, o.Args, &os.ProcAttr{Dir: o.Dir, Env: env, Files: files, Sys: sys})
	if err != nil {
		return nil, &ExecError{Step: StepExec, Path: o.Path, Err: err}
	}
	c := &Child{Pid: process.Pid, process: process, done: make(chan struct{})}
	go c.reap()
	return c, nil
}

// Child is a command that was started.
type Child struct {
	Pid int
	// Notify is nil on this system.
	Notify *os.File

	process *os.Process
	done    chan struct{}
	status  Status // readable once done is closed
	err     error
}

func (c *Child) reap() {
	defer close(c.done)
	state, err := c.process.Wait()
	if err != nil {
		c.err = fmt.Errorf("launch: wait for %d: %w", c.Pid, err)
		return
	}
	c.status = Status{Code: state.ExitCode(), User: state.UserTime(), System: state.SystemTime()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		c.status.Code, c.status.Signal, c.status.CoreDumped = 0, ws.Signal(), ws.CoreDump()
	}
}

// Close releases nothing: the command is left alone, and is still reaped when it ends.
func (c *Child) Close() error { return nil }
