//go:build linux && ((!amd64 && !arm64) || race)

package launch

import "golang.org/x/sys/unix"

// sharing: a shim has a copy of our memory here. Under the race detector it must: the wrapper by which assembly calls
// a function is instrumented, and the detector is of no use to a thread that it does not know.
const sharing = false

func clone(_, _ uintptr, _ *int32, _ *plan) (pid int, errno uintptr) { return 0, uintptr(unix.ENOSYS) }
