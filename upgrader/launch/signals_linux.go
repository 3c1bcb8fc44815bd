package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	lastSignal    = 64
	handlerIgnore = 1 // SIG_IGN
)

// kernelAction is the kernel's struct sigaction. Only the handler is used, and it comes first on every
// architecture but MIPS; all other bytes are 0 when it is written.
type kernelAction struct {
	handler uintptr
	_       [4]uint64
}

func ignored(sig syscall.Signal) bool {
	var old kernelAction
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	return errno == 0 && old.handler == handlerIgnore
}

func setIgnored(sig syscall.Signal, ignore bool) error {
	var action kernelAction
	if ignore {
		action.handler = handlerIgnore
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
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

// resetSignals leaves exactly the signals of ignore ignored, and nothing blocked on this thread. Handlers need no
// care: execve(2) resets them. It bypasses the runtime, which has no use for signals any more.
func resetSignals(ignore []int) error {
	var want [lastSignal + 1]bool
	for _, sig := range ignore {
		if sig > 0 && sig <= lastSignal {
			want[sig] = true
		}
	}
	for sig := syscall.Signal(1); sig <= lastSignal; sig++ {
		if sig == unix.SIGKILL || sig == unix.SIGSTOP || want[sig] == ignored(sig) {
			continue
		}
		if err := setIgnored(sig, want[sig]); err != nil {
			return err
		}
	}
	var none unix.Sigset_t
	return unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil)
}

// blockSignal blocks sig on this thread, until resetSignals.
func blockSignal(sig syscall.Signal) error {
	var set unix.Sigset_t
	bits := unsafe.Sizeof(set.Val[0]) * 8
	n := uintptr(sig) - 1
	set.Val[n/bits] |= 1 << (n % bits)
	return unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}
