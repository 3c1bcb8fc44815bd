package nfshm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/upgrader/upgrader/upgrader/process"
)

// Same proves that a process is the server of c, run from the command file path (its links followed): the executable is
// that file, or had its path when it was started; its command line has the same --Server and --ID; it lives in our file
// system and sees our System V segments. What cannot be looked at is not proved, by an error.
func (c Command) Same(id process.Identity, path string) (bool, error) {
	base := "/proc/" + strconv.Itoa(id.Pid)
	line, err := os.ReadFile(base + "/cmdline")
	if err != nil {
		return false, fmt.Errorf("nfshm: look at pid %d: %w", id.Pid, err)
	}
	other, err := Parse(withoutInit(strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")))
	if err != nil || other.Server != c.Server || other.ID != c.ID {
		return false, nil // most processes
	}
	exe, err := id.Executable()
	if err != nil {
		return false, fmt.Errorf("nfshm: look at pid %d: %w", id.Pid, err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path // it is being replaced
	}
	if exe.Path != real && !sameFile(id, real) {
		return false, nil
	}
	for _, space := range []string{"mnt", "ipc"} {
		ours, err := os.Readlink("/proc/self/ns/" + space)
		if err != nil {
			return false, fmt.Errorf("nfshm: look at the name spaces: %w", err)
		}
		its, err := os.Readlink(base + "/ns/" + space)
		if err != nil {
			return false, fmt.Errorf("nfshm: look at the name spaces of pid %d: %w", id.Pid, err)
		}
		if its != ours {
			return false, nil
		}
	}
	return id.Alive(), nil // asked last: what was read was its own
}

// sameFile reports whether the process executes the file of this path: it may have another name, too.
func sameFile(id process.Identity, path string) bool {
	its, err := os.Stat("/proc/" + strconv.Itoa(id.Pid) + "/exe")
	if err != nil {
		return false
	}
	ours, err := os.Stat(path)
	return err == nil && os.SameFile(its, ours)
}
