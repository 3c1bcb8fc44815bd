package intercept

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FilterOptions says what a filter notifies beyond bind(2) and listen(2).
type FilterOptions struct {
	// Learn adds the setting of IPV6_V6ONLY and SO_REUSEPORT, and the making of
	// epoll sets. Needed where the guest's descriptors cannot be had (see
	// [Capability.PidfdGetfd]); costs some 10 µs each time, nothing else.
	Learn bool
	// NoBinds leaves out bind(2), and all that goes with it: for guests of whom
	// nothing but Reach is asked.
	NoBinds bool
	// Reach adds the calls by which a guest reaches shared memory.
	Reach Reach
}

// nativeArch is AUDIT_ARCH of this program; 0 where takeover is not supported.
// Comparing 64-bit arguments by their low half supposes little endian.
func nativeArch() uint32 {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64
	}
	return 0
}

// sysEpollCreate is the number of epoll_create(2) where there is one beside epoll_create1(2).
var sysEpollCreate = map[string]int32{"amd64": 213}[runtime.GOARCH]

// Offsets in struct seccomp_data.
const (
	offNr    = 0
	offArch  = 4
	offLevel = 16 + 8*1 // low half of args[1]
	offFlags = offLevel // of seccomp(2)
	offName  = 16 + 8*2 // low half of args[2]
)

// attaching are the options (of SOL_SOCKET) with which a guest would put its
// own program, or none, in the place of the steering one.
var attaching = [...]uint32{unix.SO_ATTACH_REUSEPORT_CBPF, unix.SO_ATTACH_REUSEPORT_EBPF, unix.SO_DETACH_REUSEPORT_BPF}

// Filter is the program that the launch shim installs, and the flags of
// seccomp(2) that go with it on this kernel. It notifies bind and listen of
// this program's architecture, seccomp where a listener is asked for (the kernel
// will refuse: only one is allowed), and setsockopt for the few options that change
// who gets the connections of an SO_REUSEPORT group. Everything else is
// allowed: also x32 (its call numbers have bit 30) and foreign architectures,
// whose servers are then simply not taken over, but for the calls of Reach.
// The arguments of setsockopt are compared in registers: setting TCP_NODELAY
// costs no notification. It is nil where takeover is not supported.
func Filter(o FilterOptions) ([]unix.SockFilter, int) {
	arch := nativeArch()
	if arch == 0 {
		return nil, 0
	}
	var p assembly
	p.load(offArch)
	p.branch(arch, "", "foreign")
	p.load(offNr)
	if !o.NoBinds {
		p.branch(unix.SYS_BIND, "notify", "")
		p.branch(unix.SYS_LISTEN, "notify", "")
		p.branch(unix.SYS_SETSOCKOPT, "setsockopt", "")
	}
	p.branch(unix.SYS_SECCOMP, "seccomp", "")
	if o.Learn {
		p.branch(unix.SYS_EPOLL_CREATE1, "notify", "")
		if sysEpollCreate != 0 {
			p.branch(uint32(sysEpollCreate), "notify", "")
		}
	}
	o.Reach.native(&p)
	p.finish(unix.SECCOMP_RET_ALLOW)
	p.label("setsockopt")
	p.load(offLevel)
	if o.Learn {
		p.branch(unix.IPPROTO_IPV6, "v6", "")
	}
	p.branch(unix.SOL_SOCKET, "", "allow")
	p.load(offName)
	if o.Learn {
		p.branch(unix.SO_REUSEPORT, "notify", "")
	}
	for _, name := range attaching {
		p.branch(name, "notify", "")
	}
	p.label("allow")
	p.finish(unix.SECCOMP_RET_ALLOW)
	if o.Learn {
		p.label("v6")
		p.load(offName)
		p.branch(unix.IPV6_V6ONLY, "notify", "")
		p.finish(unix.SECCOMP_RET_ALLOW)
	}
	p.label("seccomp") // one listener is allowed in a chain, and that is ours
	p.load(offFlags)
	p.test(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, "notify", "")
	p.finish(unix.SECCOMP_RET_ALLOW)
	p.label("foreign")
	o.Reach.foreign(&p)
	p.finish(unix.SECCOMP_RET_ALLOW)
	o.Reach.judge(&p)
	p.label("notify")
	p.finish(unix.SECCOMP_RET_USER_NOTIF)
	return p.program(), filterFlags()
}

// assembly is a program whose jumps still have names; "" is the next line.
type assembly struct {
	lines  []unix.SockFilter
	jumps  [][2]string
	labels map[string]int
}

func (a *assembly) add(code uint16, k uint32, yes, no string) {
	a.lines = append(a.lines, unix.SockFilter{Code: code, K: k})
	a.jumps = append(a.jumps, [2]string{yes, no})
}

func (a *assembly) load(offset uint32) { a.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, "", "") }
func (a *assembly) finish(action uint32) {
	a.add(unix.BPF_RET|unix.BPF_K, action, "", "")
}
func (a *assembly) branch(value uint32, yes, no string) {
	a.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, value, yes, no)
}

// test jumps by whether any of the bits is set.
func (a *assembly) test(bits uint32, yes, no string) {
	a.add(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, bits, yes, no)
}

// and keeps some bits of what is loaded.
func (a *assembly) and(bits uint32) { a.add(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, bits, "", "") }

// jump goes on elsewhere.
func (a *assembly) jump(to string) {
	a.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, to, to)
}

func (a *assembly) label(name string) {
	if a.labels == nil {
		a.labels = make(map[string]int)
	}
	a.labels[name] = len(a.lines)
}

func (a *assembly) program() []unix.SockFilter {
	distance := func(from int, name string) uint8 {
		if name == "" {
			return 0
		}
		return uint8(a.labels[name] - from - 1)
	}
	for i, j := range a.jumps {
		a.lines[i].Jt, a.lines[i].Jf = distance(i, j[0]), distance(i, j[1])
	}
	return a.lines
}

// filterFlags are the best flags that this kernel knows:
// WAIT_KILLABLE_RECV (5.19) keeps a signal from restarting a call that we are
// at; SPEC_ALLOW keeps kernels before 5.16 from slowing the whole guest.
func filterFlags() int {
	flags := unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	for _, f := range []int{unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV} {
		if knowsFlags(flags | f) {
			flags |= f
		}
	}
	return flags
}

// knowsFlags asks by installing a filter at address 0: EFAULT comes after the
// flags were found good.
func knowsFlags(flags int) bool {
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), 0)
	return errno == unix.EFAULT
}

// Install puts the filter on the calling thread, for ever: on it and on all
// that it clones or executes. The result is the notify descriptor
// (close-on-exec), owned by the caller.
//
// Preconditions:
//   - the goroutine is locked to its thread;
//   - the thread has NO_NEW_PRIVS or CAP_SYS_ADMIN (else EACCES);
//   - no notify filter is on it yet (else EBUSY: it runs under another supervisor).
func Install(filter []unix.SockFilter, flags int) (int, error) {
	if len(filter) == 0 {
		return -1, fmt.Errorf("intercept: install filter: %w", unix.ENOSYS)
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// A raw call: it must happen on this thread and needs no other.
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return -1, fmt.Errorf("intercept: install filter: %w", errno)
	}
	return int(fd), nil
}
