//go:build unix

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	swapSignal   = syscall.SIGUSR2
	resizeSignal = syscall.SIGWINCH
)

// ours are the signals that mean something to us, or to the server through us.
func ours() []os.Signal {
	all := []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGIO,
	}
	return append(all, moreSignals()...)
}

// parseSignal reads TERM, SIGTERM or 15.
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("%s: signals are 1 to 64", s)
		}
		return syscall.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("%s: no such signal", s)
}

// inForeground reports whether we are the foreground job of a terminal: then
// the server stays in our process group, so that Ctrl-C and Ctrl-Z reach both.
func inForeground() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// hungUp reports whether the terminal went away.
func hungUp() bool {
	_, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err != nil
}
