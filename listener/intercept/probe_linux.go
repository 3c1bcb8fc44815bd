package intercept

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Capability is what may be done to the guests that pid stands for.
type Capability struct {
	PidfdGetfd bool // else: FilterOptions.Learn and Server.NoPidfdGetfd
	Memory     bool // without it, nothing can be taken over
}

// Capable finds out on pid, a living child of ours that runs with the
// credentials and in the namespaces that the guest will have.
func Capable(pid int) Capability {
	return Capability{
		PidfdGetfd: tryPidfdGetfd(pid) == nil,
		Memory:     readable(pid) == nil,
	}
}

// Supported tells why takeover cannot work here; nil: it can. It tries the
// whole way, from the filter to an injected descriptor, on a thread that ends.
func Supported() error {
	if nativeArch() == 0 {
		return fmt.Errorf("intercept: not on this architecture: %w", errors.ErrUnsupported)
	}
	return rehearse()
}

// Free tells why a filter costs a guest more than the calls that it notifies;
// nil: it does not. Without CAP_SYS_ADMIN it takes no_new_privs, below which
// setuid programs get no privilege.
func Free() error {
	if nativeArch() == 0 {
		return fmt.Errorf("intercept: not on this architecture: %w", errors.ErrUnsupported)
	}
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return fmt.Errorf("intercept: capget: %w", err)
	}
	if d[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return fmt.Errorf("intercept: a filter without CAP_SYS_ADMIN takes no_new_privs: %w", unix.EPERM)
	}
	return nil
}

// Probe tells a person what this kernel, container and user allow. pid is as
// for Capable; 0: no child is at hand, only what can be found without is told.
func Probe(pid int) []Check {
	checks := []Check{
		check("seccomp user notification", true, Supported(),
			"A server's own bind can be taken over.",
			"A server's own bind cannot be taken over: use --listen with a dialect, or --proxy."),
		check("WAIT_KILLABLE_RECV", false, flagKnown(unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
			"Signals do not disturb a server while its bind is being answered.",
			"A signal may interrupt a server's bind, which then starts again; that is handled (Linux 5.19 is better)."),
		check("filter without no_new_privs", false, Free(),
			"A successor starts while the last of its segment's snapshot is copied (--shm).",
			"With --shm and --listen a successor starts when its segment's snapshot is complete, some 50 ms a GiB later; with its bind taken over it need not wait."),
	}
	if pid <= 0 {
		return checks
	}
	return append(checks,
		check("pidfd_getfd", false, tryPidfdGetfd(pid),
			"A lane gets all the options that the server had set on its socket, and its epoll registrations.",
			"Of the options that a server sets before bind, a lane gets IPV6_V6ONLY and SO_REUSEPORT only; epoll sets are made by us, so that registrations from before bind go to the lane too."),
		check("process_vm_readv", false, tryReadv(pid),
			"The addresses that servers bind are read in one call.",
			"The addresses that servers bind are read from /proc/PID/mem; nothing is lost."),
		check("/proc/PID/mem", false, tryMem(pid),
			"The addresses that servers bind can be read where process_vm_readv is forbidden.",
			"The addresses that servers bind can be read by process_vm_readv alone."),
		check("memory of the server", true, readable(pid),
			"The addresses that servers bind can be read.",
			"The addresses that servers bind cannot be read, and nothing is taken over: use --listen with a dialect, or --proxy. (Yama's ptrace_scope is "+yama()+".)"),
	)
}

func check(name string, required bool, err error, good, bad string) Check {
	c := Check{Name: name, OK: err == nil, Required: required, Consequence: good, Err: err}
	if err != nil {
		c.Consequence = bad
	}
	return c
}

func flagKnown(flag int) error {
	if knowsFlags(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | flag) {
		return nil
	}
	return unix.EINVAL
}

// yama is the system's ptrace scope, for a message.
func yama() string {
	b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		return "not there"
	}
	return string(bytes.TrimSpace(b))
}

// tryPidfdGetfd duplicates any descriptor of the child's.
func tryPidfdGetfd(pid int) error {
	t := &task{tid: pid, tgid: pid}
	defer t.close()
	f, err := t.dup(0)
	if err == nil {
		return f.Close()
	}
	if errors.Is(err, unix.EBADF) { // it was permitted; the child has no descriptor 0
		return nil
	}
	return err
}

// tryReadv reads where nothing is mapped: permission is checked first.
func tryReadv(pid int) error {
	var b [1]byte
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(1)
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 1, Len: 1}}, 0)
	if err == nil || err == unix.EFAULT {
		return nil
	}
	return fmt.Errorf("intercept: process_vm_readv: %w", err)
}

// tryMem opens the child's memory: permission is checked at open.
func tryMem(pid int) error {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mem")
	if err != nil {
		return fmt.Errorf("intercept: %w", err)
	}
	return f.Close()
}

// readable tells why the child's memory can be read in neither way.
func readable(pid int) error {
	readv := tryReadv(pid)
	if readv == nil {
		return nil
	}
	if mem := tryMem(pid); mem != nil {
		return errors.Join(readv, mem)
	}
	return nil
}

// rehearse installs the filter on a thread of its own, lets it bind(2), and
// answers with an injected descriptor.
func rehearse() error {
	sizes, err := askSizes()
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("intercept: rehearse: %w", err)
	}
	defer unix.Close(fd)
	installed := make(chan int, 1) // the notify descriptor, or -1
	answered := make(chan error, 1)
	go func() { answered <- answerRehearsal(<-installed, fd, sizes) }()
	onThread(func() { err = bindRehearsal(installed, fd) })
	return errors.Join(err, <-answered)
}

// bindRehearsal is the guest's side, on a thread that ends.
func bindRehearsal(installed chan<- int, fd int) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		installed <- -1
		return fmt.Errorf("intercept: NO_NEW_PRIVS: %w", err)
	}
	notify, err := Install(Filter(FilterOptions{}))
	if err != nil {
		installed <- -1
		return err
	}
	installed <- notify
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("intercept: rehearsed bind: %w", err)
	}
	return nil
}

// answerRehearsal is the upgrader's side. It closes notify, upon which every
// notified call of the thread would fail.
func answerRehearsal(notify, fd int, sizes notifSizes) error {
	if notify < 0 {
		return nil // the other side has the error
	}
	defer unix.Close(notify)
	n, err := receive(notify, buffer(sizes.notif))
	if err != nil {
		return fmt.Errorf("intercept: rehearse: receive: %w", err)
	}
	src, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(src)
		err = inject(notify, n.id, src, fd, true)
	}
	if err != nil {
		err = fmt.Errorf("intercept: rehearse: inject: %w", err)
	}
	return errors.Join(err, send(notify, sizes.resp, n.id, done))
}
