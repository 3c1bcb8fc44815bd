package ready

import (
	"context"
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

func shell(command string) *exec.Cmd {
	c := exec.Command("/bin/sh", "-c", command)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// wait waits for c and kills its process group at the end of ctx. The group is
// only signalled while its leader has not been reaped (WNOWAIT leaves it), so
// that the number cannot have come to mean another group.
func wait(ctx context.Context, c *exec.Cmd) error {
	pid := c.Process.Pid
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		for {
			err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if !errors.Is(err, syscall.EINTR) {
				return
			}
		}
	}()
	select {
	case <-exited:
	case <-ctx.Done():
		_ = unix.Kill(-pid, unix.SIGKILL) // ESRCH: it was about to end anyway
		<-exited
	}
	return c.Wait()
}
