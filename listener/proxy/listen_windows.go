package proxy

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/windows"
)

// soExclusiveAddrUse is ~SO_REUSEADDR, as winsock2.h has it.
const soExclusiveAddrUse = ^windows.SO_REUSEADDR

// hold sees to it that nobody else can take the address beside us.
func hold(_, _ string, c syscall.RawConn) error {
	var cause error
	err := c.Control(func(fd uintptr) {
		cause = windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soExclusiveAddrUse, 1)
	})
	if err == nil && cause != nil {
		err = fmt.Errorf("SO_EXCLUSIVEADDRUSE: %w", cause)
	}
	return err
}
