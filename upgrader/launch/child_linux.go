package launch

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Child is a command that was started.
type Child struct {
	Pid int
	// Notify is the listener of the order's filter; nil without one. The caller closes it.
	Notify *os.File

	pidfd *os.File
	done  chan struct{}

	mu    sync.Mutex
	ended bool // reaped: Pid may be somebody else's

	status Status // readable once done is closed
	err    error
}

// startChild forks a shim and waits for it on a goroutine of its own. The end of the thread that forked is what
// PR_SET_PDEATHSIG takes for the death of the parent (prctl(2)): then that thread stays for as long as the child does.
// Otherwise nothing stays but a descriptor in the poller.
func startChild(p *plan, ours int) (*Child, error) {
	c := &Child{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(c.done)
		runtime.LockOSThread()
		pid, pidfd, err := forked(p, ours)
		if err == nil {
			c.Pid = pid
			if pidfd >= 0 {
				_ = unix.SetNonblock(int(pidfd), true) // so that the poller takes it
				c.pidfd = os.NewFile(uintptr(pidfd), fmt.Sprintf("pidfd:%d", pid))
			}
		}
		if !p.dies {
			runtime.UnlockOSThread()
		}
		started <- err
		if err == nil {
			if !p.dies {
				c.awaitEnd()
			}
			c.reap()
		}
		if p.dies {
			runtime.UnlockOSThread()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// awaitEnd returns when the child has ended, and earlier where that cannot be polled.
func (c *Child) awaitEnd() {
	if c.pidfd == nil {
		return
	}
	raw, err := c.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool { // an error: it was closed, and the end is waited for in the other way
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return ready > 0 || err != nil && err != unix.EINTR
	})
}

// reap waits for the end, and takes the status under the lock: until then the pid is ours and may be signalled.
func (c *Child) reap() {
	var info unix.Siginfo
	err := retry(func() error {
		return unix.Waitid(unix.P_PID, c.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if err != nil {
		c.err = fmt.Errorf("launch: wait for %d: %w", c.Pid, os.NewSyscallError("waitid", err))
		return
	}
	var status unix.WaitStatus
	var usage unix.Rusage
	err = retry(func() error { _, err := unix.Wait4(c.Pid, &status, 0, &usage); return err })
	if err != nil {
		c.err = fmt.Errorf("launch: wait for %d: %w", c.Pid, os.NewSyscallError("wait4", err))
		return
	}
	c.status = Status{
		User:   time.Duration(usage.Utime.Nano()),
		System: time.Duration(usage.Stime.Nano()),
	}
	if status.Signaled() {
		c.status.Signal, c.status.CoreDumped = status.Signal(), status.CoreDump()
	} else {
		c.status.Code = status.ExitStatus()
	}
}

// Wait waits until the command has ended. It may be called any number of times, from anywhere.
func (c *Child) Wait() (Status, error) {
	<-c.done
	return c.status, c.err
}

// Done is closed when the command has ended and Wait will not block.
func (c *Child) Done() <-chan struct{} { return c.done }

// Pidfd is the command's pidfd, lent until Close; nil where the kernel has none (before 5.2).
func (c *Child) Pidfd() *os.File { return c.pidfd }

// Signal sends sig to the command's process, never to another one that got its pid. os.ErrProcessDone when it has ended.
func (c *Child) Signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return os.ErrProcessDone
	}
	if err := unix.Kill(c.Pid, sig); err != nil {
		return fmt.Errorf("launch: signal %d: %w", c.Pid, os.NewSyscallError("kill", err))
	}
	return nil
}

// Close releases the pidfd. The command is left alone, and is still reaped when it ends.
func (c *Child) Close() error {
	if c.pidfd == nil {
		return nil
	}
	return c.pidfd.Close()
}
