package main

import (
	"fmt"
	"os"
	"syscall"
)

// There is nothing like them: swaps are asked for by command.
const (
	swapSignal   = syscall.Signal(-1)
	resizeSignal = syscall.Signal(-1)
)

func ours() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// parseSignal knows TERM, INT and KILL.
func parseSignal(s string) (syscall.Signal, error) {
	switch s {
	case "TERM", "SIGTERM":
		return syscall.SIGTERM, nil
	case "INT", "SIGINT":
		return syscall.SIGINT, nil
	case "KILL", "SIGKILL":
		return syscall.SIGKILL, nil
	case "HUP", "SIGHUP":
		return syscall.SIGHUP, nil
	}
	return 0, fmt.Errorf("%s: no such signal on Windows", s)
}

func inForeground() bool { return false }

func hungUp() bool { return false }
