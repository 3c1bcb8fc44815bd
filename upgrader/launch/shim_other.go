//go:build !linux

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// New forks nothing on this system: files and handles are lent until Exec returns. ctx covers the time until then.
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
	s.once.Do(func() {
		if err = s.ctx.Err(); err != nil {
			err = &ExecError{Step: StepReceive, Path: s.order.Path, Err: err}
			return
		}
		if len(f.Program) > 0 {
			err = &ExecError{Step: StepFilter, Err: fmt.Errorf("%w on this system", errors.ErrUnsupported)}
			return
		}
		child, err = start(s.order)
	})
	return child, err
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

// Signal sends sig to the command's process, never to another one that got its pid; on Windows there is KILL alone.
// os.ErrProcessDone when it has ended.
func (c *Child) Signal(sig syscall.Signal) error { return c.process.Signal(sig) }
