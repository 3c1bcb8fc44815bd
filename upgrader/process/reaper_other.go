//go:build !linux

package process

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

func unsupported(what string) error {
	return fmt.Errorf("process: %s: %w on this system", what, errors.ErrUnsupported)
}

// Subreaper is not supported on this system.
func Subreaper() error { return unsupported("become subreaper") }

// NewCgroup fails: only Linux has them.
func NewCgroup(string) (string, error) { return "", fmt.Errorf("process: %w", ErrNoCgroup) }

// RemoveCgroup has nothing to remove.
func RemoveCgroup(string) error { return nil }

// Reaper has nothing to do: this system gives orphans to process 1.
type Reaper struct {
	Grace  time.Duration
	Reaped func(pid int, status syscall.WaitStatus)
}

// Start calls start.
func (r *Reaper) Start(start func() (pid int, err error)) (int, error) { return start() }

// Forget does nothing.
func (r *Reaper) Forget(int) {}

// Run waits for the end of ctx.
func (r *Reaper) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
