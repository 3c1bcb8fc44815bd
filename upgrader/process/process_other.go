//go:build !linux

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

func unsupported(what string) error {
	return fmt.Errorf("process: %s: %w on this system", what, errors.ErrUnsupported)
}

// Of is not supported on this system.
func Of(int) (Identity, error) { return Identity{}, unsupported("identify") }

// Self is not supported on this system.
func Self() (Identity, error) { return Of(os.Getpid()) }

// Alive cannot be known: no identity is given out on this system.
func (id Identity) Alive() bool { return false }

// Executable is not supported on this system.
func (id Identity) Executable() (Exe, error) { return Exe{}, unsupported("executable") }

// Pidfd is not supported on this system.
func (id Identity) Pidfd() (*os.File, error) { return nil, unsupported("pidfd") }

// Signal is not supported on this system.
func (id Identity) Signal(syscall.Signal) error { return unsupported("signal") }

// Wait is not supported on this system.
func (id Identity) Wait(context.Context) error { return unsupported("wait") }

// Subreaper is not supported on this system.
func Subreaper() error { return unsupported("become subreaper") }

// Members are not supported on this system: every question is answered with an error.
type Members struct{ leader Identity }

// NewMembers remembers the leader only.
func NewMembers(leader Identity, _ string, _ ...string) *Members { return &Members{leader: leader} }

func (m *Members) Leader() Identity                  { return m.leader }
func (m *Members) SetLeader(leader Identity)         { m.leader = leader }
func (m *Members) List() ([]Identity, error)         { return nil, unsupported("members") }
func (m *Members) Pids() []int                       { return nil }
func (m *Members) Has(int) bool                      { return false }
func (m *Members) Signal(syscall.Signal) error       { return unsupported("signal members") }
func (m *Members) SignalLeader(syscall.Signal) error { return unsupported("signal leader") }
func (m *Members) Empty() (bool, error)              { return false, unsupported("members") }
func (m *Members) Kill(context.Context) error        { return unsupported("kill") }
func (m *Members) WaitEmpty(context.Context) error   { return unsupported("wait for members") }
func (m *Members) Inodes() (map[uint64]struct{}, error) {
	return nil, unsupported("sockets of members")
}
func (m *Members) Holding(uint64) (bool, error) { return true, unsupported("sockets of members") }

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
