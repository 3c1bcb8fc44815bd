package intercept

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f on a thread of its own, which ends with it: for what cannot
// be undone on a thread (an unshared descriptor table, a filter). Never on
// the main thread: that one cannot end, and would keep it for ever.
func onThread(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While it is locked, another goroutine gets another thread.
			onThread(f)
			runtime.UnlockOSThread()
			return
		}
		f() // no unlock: the thread ends
	}()
	<-ended
}
