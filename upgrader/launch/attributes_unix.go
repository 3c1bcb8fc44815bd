//go:build unix && !linux

package launch

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
)

func attributes(o Order) (*syscall.SysProcAttr, error) {
	sys := &syscall.SysProcAttr{Setpgid: o.OwnGroup}
	if o.Terminal != nil {
		raw, err := o.Terminal.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := raw.Control(func(fd uintptr) { sys.Foreground, sys.Ctty = true, int(fd) }); err != nil {
			return nil, err
		}
	}
	if o.Uid != nil || o.Gid != nil {
		sys.Credential = &syscall.Credential{Uid: uint32(syscall.Getuid()), Gid: uint32(syscall.Getgid()), Groups: o.Groups}
		if o.Uid != nil {
			sys.Credential.Uid = *o.Uid
		}
		if o.Gid != nil {
			sys.Credential.Gid = *o.Gid
		}
	}
	return sys, nil
}

// withPid goes by way of a shell, which knows its pid and keeps it when it executes the command.
func withPid(o Order) (path string, args []string, err error) {
	names := regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	var script strings.Builder
	for _, name := range o.PidVariables {
		if !names.MatchString(name) {
			return "", nil, fmt.Errorf("pid variable %q: %w", name, os.ErrInvalid)
		}
		script.WriteString("export " + name + "=$$; ")
	}
	script.WriteString(`exec "$0" "$@"`)
	return "/bin/sh", append([]string{"sh", "-c", script.String(), o.Path}, o.Args[1:]...), nil
}
