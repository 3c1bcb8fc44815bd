package ready

import (
	"context"
	"os/exec"
	"syscall"
)

func shell(command string) *exec.Cmd {
	c := exec.Command("cmd.exe")
	// cmd has its own idea of quotes, so it gets the line as it is.
	c.SysProcAttr = &syscall.SysProcAttr{CmdLine: `cmd.exe /S /C "` + command + `"`, CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
	return c
}

// wait waits for c and kills it at the end of ctx. Windows has no group that
// could be killed without a job object; what it started in the background is
// left.
func wait(ctx context.Context, c *exec.Cmd) error {
	stop := context.AfterFunc(ctx, func() { _ = c.Process.Kill() }) // an error says that it is gone
	defer stop()
	return c.Wait()
}
