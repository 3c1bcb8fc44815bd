//go:build !linux && !windows

package process

import (
	"context"
	"os"
	"syscall"
)

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
