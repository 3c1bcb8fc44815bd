package shmbridge

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// lowest is the nice value of whoever is to have what others leave.
const lowest = 19

// gently runs f on a thread of its own, of the lowest priority, which ends with it: an unprivileged thread cannot get its
// priority back. A nice value belongs to a thread here, whatever POSIX says (setpriority(2)).
func gently(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the main thread cannot end: while it is locked, another goroutine gets another one
			gently(f)
			runtime.UnlockOSThread()
			return
		}
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, lowest) // a favour to others; it is always permitted
		f()                                                // no unlock: the thread ends
	}()
	<-ended
}
