//go:build !linux

package process

// Add makes id a member.
func (m *Members) Add(Identity) {}

// Children are the running children of this process.
func Children() ([]Identity, error) { return nil, unsupported("list children") }

// All are the running processes.
func All() ([]Identity, error) { return nil, unsupported("list processes") }

// Sockets are the sockets that the process has open.
func (id Identity) Sockets() (map[uint64]struct{}, error) { return nil, unsupported("list sockets") }
