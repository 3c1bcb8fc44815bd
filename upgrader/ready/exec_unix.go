//go:build unix && !linux

package ready

import (
	"context"
	"os/exec"
	"syscall"
)

func shell(command string) *exec.Cmd {
	c := exec.Command("/bin/sh", "-c", command)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// wait waits for c and kills its process group at the end of ctx.
func wait(ctx context.Context, c *exec.Cmd) error {
	stop := context.AfterFunc(ctx, func() {
		// ESRCH: it is gone. Process.Signal knows whether it was reaped.
		if c.Process.Signal(syscall.Signal(0)) == nil {
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		}
	})
	defer stop()
	return c.Wait()
}
