//go:build !linux && !windows

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Instruction is one instruction of a classic BPF program; only Linux has a use for it.
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// Ignored is unknown on this system: nil, which Order.Ignore takes for "as inherited".
func Ignored() []syscall.Signal { return nil }

// Shim stands for the command that Exec is going to start.
type Shim struct {
	ctx   context.Context
	order Order
	once  sync.Once
}

// New forks nothing on this system. ctx covers the time until Exec has returned.
func New(ctx context.Context, o Order) (*Shim, error) {
	if err := ctx.Err(); err != nil {
		return nil, &ExecError{Step: StepReceive, Path: o.Path, Err: context.Cause(ctx)}
	}
	return &Shim{ctx: ctx, order: o}, nil
}

// Pid is 0: nothing was forked.
func (s *Shim) Pid() int { return 0 }

// Discard makes a later Exec fail.
func (s *Shim) Discard() { s.once.Do(func() {}) }

// Exec starts the command. What cannot be ordered on this system is an error that matches errors.ErrUnsupported.
func (s *Shim) Exec(f Filter) (*Child, error) {
	child, err := (*Child)(nil), errors.New("launch: used already")
	s.once.Do(func() { child, err = s.exec(s.order, f) })
	return child, err
}

func (s *Shim) exec(o Order, f Filter) (*Child, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, &ExecError{Step: StepReceive, Path: o.Path, Err: err}
	}
	for field, asked := range map[string]bool{
		"filter": len(f.Program) > 0, "cgroup": o.Cgroup != "", "umask": o.Umask != nil, "death with the parent": o.DieWithParent,
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

// Wait waits until the command has ended. It may be called any number of times, from anywhere.
func (c *Child) Wait() (Status, error) {
	<-c.done
	return c.status, c.err
}

// Done is closed when the command has ended and Wait will not block.
func (c *Child) Done() <-chan struct{} { return c.done }

// Pidfd is nil: this system has none.
func (c *Child) Pidfd() *os.File { return nil }

// Signal sends sig to the command's process, never to another one that got its pid. os.ErrProcessDone when it has ended.
func (c *Child) Signal(sig syscall.Signal) error { return c.process.Signal(sig) }

// Close releases nothing: the command is left alone, and is still reaped when it ends.
func (c *Child) Close() error { return nil }
