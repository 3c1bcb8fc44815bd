//go:build !linux && !windows

package process

// Life tells that a process ends.
type Life struct{}

// Life is not supported on this system.
func (id Identity) Life() (*Life, error) { return nil, unsupported("watch") }

// Ends reports whether the process has ended.
func (l *Life) Ends() bool { return false }

// Close ends the look.
func (l *Life) Close() {}
