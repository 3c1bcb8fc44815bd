//go:build !linux && !windows

package process

// Parent is the pid of the process's parent.
func (id Identity) Parent() (int, error) { return 0, unsupported("find the parent") }
