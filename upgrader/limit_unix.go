//go:build unix

package upgrader

import "syscall"

// descriptorLimit is how many descriptors this process may have, 0 when that
// is not known.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(uint64(limit.Cur), 1<<30))
}
