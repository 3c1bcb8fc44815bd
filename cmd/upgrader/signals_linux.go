package main

import (
	"os"
	"syscall"
)

// moreSignals are those of Linux alone.
func moreSignals() []os.Signal {
	all := []os.Signal{syscall.SIGPWR}
	for n := syscall.Signal(35); n <= 64; n++ { // 32 to 34 belong to the C library and the runtime
		all = append(all, n)
	}
	return all
}
