package launch

import (
	"math"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the shim says, in frames of one byte: said closed, 'C', when it holds nothing of its parent any more; a filter's
// listener comes with 'N'; 'G' when the exec is next; 'E' is followed by a failure. The end of the stream after 'G' is
// the success: the shim's end closes on exec.
const (
	frameClosed = 'C'
	frameNotify = 'N'
	frameGo     = 'G'
	frameError  = 'E'
)

// goMessage is what the parent answers: it knows the pid and what follows from it. Then come the instructions.
type goMessage struct {
	inode        uint64 // of the pidfd
	unique       uint32 // 1: inode means something
	flags        uint32 // of the filter, beside our own
	instructions uint32 // 0: no filter
	_            uint32
}

// failure is a step that failed: an index into steps, and why.
type failure struct{ step, errno uint32 }

const (
	atReceive = iota
	atGroup
	atTerminal
	atCgroup
	atDescriptors
	atFilter
	atSetgroups
	atSetgid
	atSetuid
	atChdir
	atSignals
	atDeathSignal
	atExec
)

var steps = [...]string{atReceive: StepReceive, atGroup: StepGroup, atTerminal: StepTerminal,
	atCgroup: StepCgroup, atDescriptors: StepDescriptors, atFilter: StepFilter, atSetgroups: StepSetgroups,
	atSetgid: StepSetgid, atSetuid: StepSetuid, atChdir: StepChdir, atSignals: StepSignals, atDeathSignal: StepDeathSignal,
	atExec: StepExec}

// codeFailed is the shim's exit code when it could not carry out its order; the parent was told.
const codeFailed = 111

// stackSize of a shim that shares our memory. What runs there is nosplit, which the linker holds to 800 bytes.
const stackSize = 16 << 10

// fork makes the shim, and returns in the parent only. All signals are blocked on the calling thread, which is locked.
// The shim shares our memory where it can: to copy the page tables, and then each page that we write to, costs
// more than all else that it does.
func fork(p *plan, pidfd *int32) (pid int, errno syscall.Errno) {
	flags := unix.CLONE_PIDFD | uintptr(unix.SIGCHLD)
	if !p.shares {
		return forkCopy(p, flags, pidfd)
	}
	top := (uintptr(unsafe.Pointer(&p.stack[0])) + uintptr(len(p.stack))) &^ 15
	pid, e := clone(flags|unix.CLONE_VM, top, pidfd, p)
	return pid, syscall.Errno(e)
}

// forkCopy is fork with a copy of our memory: the child goes on in this frame.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func forkCopy(p *plan, flags uintptr, pidfd *int32) (pid int, errno syscall.Errno) {
	stack := uintptr(0)
	if runtime.GOARCH == "s390x" { // there the two have changed places
		flags, stack = stack, flags
	}
	r, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flags, stack, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	if errno == 0 && r == 0 {
		shim(p)
	}
	return int(r), errno
}

// shim is all that a shim does. It does not return.
//
//go:nosplit
//go:norace
//go:nocheckptr
func shim(p *plan) {
	p.failed.errno = uint32(become(p))
	say(p, frameError)
	call(unix.SYS_WRITE, uintptr(p.own), uintptr(unsafe.Pointer(&p.failed)), unsafe.Sizeof(p.failed))
	for {
		call(unix.SYS_EXIT_GROUP, codeFailed, 0, 0)
	}
}

// become carries the order out. It returns only when a step failed, which p.failed names.
//
//go:nosplit
//go:norace
//go:nocheckptr
func become(p *plan) syscall.Errno {
	closeOthers(p)
	say(p, frameClosed)
	p.failed.step = atReceive
	if e := receive(p); e != 0 {
		return e
	}
	if p.umask >= 0 {
		call(unix.SYS_UMASK, uintptr(p.umask), 0, 0)
	}
	p.failed.step = atGroup
	if p.group {
		if _, e := call(unix.SYS_SETPGID, 0, 0, 0); e != 0 {
			return e
		}
	}
	p.failed.step = atTerminal
	if p.tty >= 0 { // from the background, for which the terminal would stop us, were TTOU not blocked
		group, _ := call(unix.SYS_GETPGID, 0, 0, 0)
		own := int32(group)
		if _, e := call(unix.SYS_IOCTL, uintptr(p.tty), unix.TIOCSPGRP, uintptr(unsafe.Pointer(&own))); e != 0 {
			return e
		}
	}
	if e := enterCgroup(p); e != 0 {
		return e
	}
	setVariables(p)
	p.failed.step = atDescriptors
	if e := place(p); e != 0 {
		return e
	}
	if e := filter(p); e != 0 {
		return e
	}
	if e := identify(p); e != 0 {
		return e
	}
	p.failed.step = atChdir
	if p.dir != nil {
		if _, e := call(unix.SYS_CHDIR, uintptr(unsafe.Pointer(p.dir)), 0, 0); e != 0 {
			return e
		}
	}
	p.failed.step = atSignals
	if e := resetSignals(p); e != 0 {
		return e
	}
	p.failed.step = atDeathSignal
	if p.dies { // after the change of user, which clears it; a parent that died before it was set is found by asking
		if _, e := call(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0); e != 0 {
			return e
		}
		if parent, _ := call(unix.SYS_GETPPID, 0, 0, 0); int(parent) != p.parent {
			return unix.ESRCH
		}
	}
	p.failed.step = atExec
	return execute(p)
}

// call is a system call of at most three arguments.
//
//go:nosplit
//go:norace
//go:nocheckptr
func call(number, a, b, c uintptr) (uintptr, syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(number, a, b, c, 0, 0, 0)
	return r, errno
}

//go:nosplit
//go:norace
//go:nocheckptr
func say(p *plan, frame byte) {
	syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(p.own), uintptr(unsafe.Pointer(&frame)), 1, unix.MSG_NOSIGNAL, 0, 0)
}

// closeOthers closes everything but stdio and what the plan keeps.
//
//go:nosplit
//go:norace
//go:nocheckptr
func closeOthers(p *plan) {
	from := 3
	for i := 0; i < len(p.kept); i++ {
		closeRange(p, from, p.kept[i]-1)
		from = p.kept[i] + 1
	}
	closeRange(p, from, math.MaxInt32)
}

//go:nosplit
//go:norace
//go:nocheckptr
func closeRange(p *plan, from, to int) {
	if from > to {
		return
	}
	if _, e := call(unix.SYS_CLOSE_RANGE, uintptr(from), uintptr(to), 0); e == 0 {
		return
	}
	for ; from <= to && from < p.limit; from++ { // before Linux 5.9, or a sandbox that does not know it
		call(unix.SYS_CLOSE, uintptr(from), 0, 0)
	}
}

// receive waits for the parent's word. Without one the shim ends: the parent is gone, or needs it no more.
//
//go:nosplit
//go:norace
//go:nocheckptr
func receive(p *plan) syscall.Errno {
	if e := readFull(p.own, uintptr(unsafe.Pointer(&p.word)), unsafe.Sizeof(p.word)); e != 0 {
		return e
	}
	size := uintptr(p.word.instructions) * unsafe.Sizeof(p.instructions[0])
	return readFull(p.own, uintptr(unsafe.Pointer(&p.instructions[0])), size)
}

//go:nosplit
//go:norace
//go:nocheckptr
func readFull(fd int, at, size uintptr) syscall.Errno {
	for size > 0 {
		n, e := call(unix.SYS_READ, uintptr(fd), at, size)
		switch {
		case e == unix.EINTR:
		case e != 0:
			return e
		case n == 0:
			return unix.ECANCELED
		default:
			at, size = at+n, size-n
		}
	}
	return 0
}

// enterCgroup moves this process: "0" is the writer itself (cgroups(7)).
//
//go:nosplit
//go:norace
//go:nocheckptr
func enterCgroup(p *plan) syscall.Errno {
	p.failed.step = atCgroup
	if p.cgroup == nil {
		return 0
	}
	here := unix.AT_FDCWD
	fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(here), uintptr(unsafe.Pointer(p.cgroup)), unix.O_WRONLY|unix.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return e
	}
	self := byte('0')
	if _, e := call(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&self)), 1); e != 0 {
		return e
	}
	call(unix.SYS_CLOSE, fd, 0, 0)
	return 0
}

//go:nosplit
//go:norace
//go:nocheckptr
func setVariables(p *plan) {
	pid, _ := call(unix.SYS_GETPID, 0, 0, 0)
	for i := 0; i < len(p.pids); i++ {
		digits(p.pids[i], uint64(pid))
	}
	if p.word.unique == 0 { // the list ends before them; not by a pointer, whose write could wake the collector
		*(*uintptr)(unsafe.Pointer(&p.envv[p.fds])) = 0
	}
	for i := 0; i < len(p.pidfds); i++ {
		digits(p.pidfds[i], p.word.inode)
	}
}

// digits writes n in decimal, with its NUL, into digitsRoom bytes.
//
//go:nosplit
//go:norace
//go:nocheckptr
func digits(b []byte, n uint64) {
	size := 1
	for rest := n / 10; rest > 0; rest /= 10 {
		size++
	}
	b[size] = 0
	for i := size - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// place puts the passed descriptors at their numbers, open across exec. All are lifted out of the way first.
//
//go:nosplit
//go:norace
//go:nocheckptr
func place(p *plan) syscall.Errno {
	own, e := lift(p, p.own)
	if e != 0 {
		return e
	}
	p.own = own
	if p.held >= 0 {
		if p.held, e = lift(p, p.held); e != 0 {
			return e
		}
	}
	for i := 0; i < len(p.passed); i++ {
		if p.lifted[i], e = lift(p, p.passed[i]); e != 0 {
			return e
		}
	}
	for i := 0; i < len(p.numbers); i++ {
		if _, e := call(unix.SYS_DUP3, uintptr(p.lifted[i]), uintptr(p.numbers[i]), 0); e != 0 {
			return e
		}
	}
	return 0
}

//go:nosplit
//go:norace
//go:nocheckptr
func lift(p *plan, fd int) (int, syscall.Errno) {
	r, e := call(unix.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, uintptr(p.above))
	return int(r), e
}

// identify sets groups and user. Setting the same empty list needs a privilege too: an unprivileged "change" to
// oneself must not fail for it.
//
//go:nosplit
//go:norace
//go:nocheckptr
func identify(p *plan) syscall.Errno {
	if p.uid < 0 && p.gid < 0 {
		return 0
	}
	p.failed.step = atSetgroups
	if have, e := call(unix.SYS_GETGROUPS, 0, 0, 0); e != 0 || have > 0 || len(p.groups) > 0 {
		var list uintptr
		if len(p.groups) > 0 {
			list = uintptr(unsafe.Pointer(&p.groups[0]))
		}
		if _, e := call(sysSetgroups, uintptr(len(p.groups)), list, 0); e != 0 {
			return e
		}
	}
	p.failed.step = atSetgid
	if p.gid >= 0 {
		if _, e := call(sysSetresgid, uintptr(p.gid), uintptr(p.gid), uintptr(p.gid)); e != 0 {
			return e
		}
	}
	p.failed.step = atSetuid
	if p.uid >= 0 {
		if _, e := call(sysSetresuid, uintptr(p.uid), uintptr(p.uid), uintptr(p.uid)); e != 0 {
			return e
		}
	}
	return 0
}

// execute returns only when it failed.
//
//go:nosplit
//go:norace
//go:nocheckptr
func execute(p *plan) syscall.Errno {
	if p.soft != nil {
		syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(p.soft)), 0, 0, 0)
	}
	say(p, frameGo)
	argv, envv := uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.envv[0]))
	if p.held < 0 {
		_, e := call(unix.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)), argv, envv)
		return e
	}
	_, _, e := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(p.held), uintptr(unsafe.Pointer(p.empty)), argv, envv, unix.AT_EMPTY_PATH, 0)
	if e == unix.ENOSYS { // a sandbox that does not know it
		digits(p.heldAt[len(fdDirectory):], uint64(p.held))
		_, e = call(unix.SYS_EXECVE, uintptr(unsafe.Pointer(&p.heldAt[0])), argv, envv)
	}
	return e
}
