package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	lastSignal     = 64
	handlerDefault = 0 // SIG_DFL
	handlerIgnore  = 1 // SIG_IGN
	setSize        = 8 // of the kernel's sigset_t, in bytes
)

// kernelAction is the kernel's struct sigaction. Only the handler is used, and it comes first on every
// architecture but MIPS; all other bytes are 0 when it is written.
type kernelAction struct {
	handler uintptr
	_       [4]uint64
}

func ignored(sig syscall.Signal) bool {
	var old kernelAction
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&old)), setSize, 0, 0)
	return errno == 0 && old.handler == handlerIgnore
}

// Ignored are the signals that this process ignores now. Asked before it handles any, these are the ones that it
// was started with and that the Go runtime respects: HUP, INT, and the stop signals of job control. 32 to 34 are not
// looked at: they are the C library's own, and say nothing about what whoever started us wants.
func Ignored() []syscall.Signal {
	list := []syscall.Signal{} // empty is an answer, nil is not: see Order.Ignore
	for sig := syscall.Signal(1); sig <= lastSignal; sig++ {
		if (sig < 32 || sig > 34) && ignored(sig) {
			list = append(list, sig)
		}
	}
	return list
}

// block blocks all signals on this thread and returns what was blocked before.
func block() (before unix.Sigset_t, err error) {
	all := unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	return before, unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before)
}

func unblock(before unix.Sigset_t) { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) } // it was so before

// resetSignals leaves exactly the plan's signals ignored, and none blocked. What came in while the shim ran was meant
// for the group of its parent (by the terminal, say), which decides about it: to ignore a signal drops those.
//
//go:nosplit
//go:norace
//go:nocheckptr
func resetSignals(p *plan) syscall.Errno {
	var action kernelAction
	for sig := uintptr(1); sig <= lastSignal; sig++ {
		if sig == uintptr(unix.SIGKILL) || sig == uintptr(unix.SIGSTOP) {
			continue
		}
		action.handler = handlerIgnore
		_, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0)
		if e == 0 && !p.ignore[sig] {
			action.handler = handlerDefault
			_, _, e = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0)
		}
		if e != 0 {
			return e
		}
	}
	var none uint64
	_, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, setSize, 0, 0)
	return e
}
