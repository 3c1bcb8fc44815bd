//go:build linux && (amd64 || arm64) && !race

package launch

// sharing: a shim may share our memory, on a stack of its own.
const sharing = true

// clone makes a child that runs shim(p) on the stack that ends at stack. It returns in the parent only.
//
//go:noescape
func clone(flags, stack uintptr, pidfd *int32, p *plan) (pid int, errno uintptr)
