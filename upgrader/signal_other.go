//go:build !unix

package upgrader

import (
	"strconv"
	"syscall"
)

// signalName is a number here: there are no names to look up.
func signalName(sig syscall.Signal) string { return strconv.Itoa(int(sig)) }
