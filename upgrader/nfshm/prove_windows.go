package nfshm

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/upgrader/upgrader/upgrader/process"
)

// Same proves that a process is the server of c, run from the command file path: its executable is that file, and its
// command line has the same --Server and --ID. What cannot be looked at is not proved, by an error.
func (c Command) Same(id process.Identity, path string) (bool, error) {
	args, err := id.Args()
	if err != nil {
		return false, fmt.Errorf("nfshm: look at pid %d: %w", id.Pid, err)
	}
	other, err := Parse(withoutInit(args))
	if err != nil || other.Server != c.Server || other.ID != c.ID {
		return false, nil // most processes
	}
	exe, err := id.Executable()
	if err != nil {
		return false, fmt.Errorf("nfshm: look at pid %d: %w", id.Pid, err)
	}
	if !strings.EqualFold(exe.Path, filepath.Clean(path)) { // names do not depend on case here
		return false, nil
	}
	return id.Alive(), nil // asked last: what was read was its own
}
