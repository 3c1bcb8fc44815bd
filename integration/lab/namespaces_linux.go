package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// variable is in the environment of a process that Command made, until it has
// settled in. Its value are the namespaces that are new.
const variable = "LAB_NAMESPACES"

// Allowed gives namespaces (CLONE_NEW flags) back if this process may make all
// of them, else 0.
func Allowed(namespaces uintptr) uintptr {
	var refused error
	elsewhere(func() { refused = unix.Unshare(int(namespaces)) })
	if refused != nil {
		return 0
	}
	return namespaces
}

// elsewhere runs f on a thread that may go to other namespaces, and ends with it. It is never the main one: that cannot
// end, and /proc/self shows it for all.
func elsewhere(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // while it is locked, another goroutine gets another one
			elsewhere(f)
			runtime.UnlockOSThread()
			return
		}
		f() // no unlock: the thread ends
	}()
	<-ended
}

// Command runs this program again in new namespaces (0: none). The first thing
// that it does there is to Settle.
func Command(ctx context.Context, namespaces uintptr, arguments ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "/proc/self/exe", arguments...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), variable+"="+strconv.FormatUint(uint64(namespaces), 10))
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	return c
}

// Inside reports whether this process is one of Command's that has not settled
// in yet.
func Inside() bool { return os.Getenv(variable) != "" }

// Settle makes the namespaces that Command made, if it did, fit to live in:
// the loopback interface is up, /proc shows the processes that are there.
// Orphans of what this process starts come to it.
func Settle() error {
	namespaces, _ := strconv.ParseUint(os.Getenv(variable), 10, 64) // empty: none
	if err := os.Unsetenv(variable); err != nil {
		return err
	}
	if namespaces&unix.CLONE_NEWNS != 0 {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("private mounts: %w", err)
		}
		if namespaces&unix.CLONE_NEWPID != 0 {
			if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
				return fmt.Errorf("mount /proc: %w", err)
			}
		}
	}
	if namespaces&unix.CLONE_NEWNET != 0 {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("lo: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("subreaper: %w", err)
	}
	return nil
}

// loopbackUp is `ip link set lo up`.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written to it
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo); err != nil {
		return err
	}
	lo.SetUint16(lo.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
