//go:build !windows

package upgrader

import (
	"context"
	"os/exec"
)

// shell is a command line of the operator's.
func shell(ctx context.Context, line string) *exec.Cmd {
	return exec.CommandContext(ctx, "/bin/sh", "-c", line)
}
