//go:build linux && (386 || arm)

package launch

import "golang.org/x/sys/unix"

// The calls that take 32-bit user and group numbers.
const (
	sysSetgroups = unix.SYS_SETGROUPS32
	sysSetresgid = unix.SYS_SETRESGID32
	sysSetresuid = unix.SYS_SETRESUID32
)
