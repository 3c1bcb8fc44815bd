//go:build !linux

package state

import "os"

// bootID is not known here: a state is taken for one of this boot, and what
// it is about has to be identified anyway.
func bootID() (string, error) { return "", nil }

// startTime is not known here. Whether a process runs is told by the lock.
func startTime(pid int) (uint64, bool) {
	if pid == os.Getpid() {
		return 0, true
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return 0, false
	}
	_ = p.Release() // nothing was done with it
	return 0, true
}
