package upgrader

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

// shell is a command line of the operator's. cmd has its own idea of quotes, so
// it gets the line as it is.
func shell(ctx context.Context, line string) *exec.Cmd {
	c := exec.CommandContext(ctx, "cmd.exe")
	c.SysProcAttr = &syscall.SysProcAttr{CmdLine: `cmd.exe /S /C "` + line + `"`, CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
	c.WaitDelay = time.Second // what it started may have our pipe, and is not killed with it
	return c
}
