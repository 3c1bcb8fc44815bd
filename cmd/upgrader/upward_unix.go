//go:build unix

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// monotonic is what RELOADING=1 must come with since systemd 253.
func monotonic() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it cannot fail for this clock
	return fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000)
}
