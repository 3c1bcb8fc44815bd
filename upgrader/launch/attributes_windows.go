package launch

import (
	"errors"
	"fmt"
	"syscall"
)

func attributes(o Order) (*syscall.SysProcAttr, error) {
	if o.Uid != nil || o.Gid != nil || len(o.Groups) > 0 || o.Terminal != nil {
		return nil, fmt.Errorf("user, group, terminal: %w on Windows", errors.ErrUnsupported)
	}
	sys := &syscall.SysProcAttr{}
	if o.OwnGroup {
		sys.CreationFlags = syscall.CREATE_NEW_PROCESS_GROUP
	}
	return sys, nil
}

func withPid(Order) (path string, args []string, err error) {
	return "", nil, fmt.Errorf("pid variables: %w on Windows", errors.ErrUnsupported)
}
