package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Running is an upgrader that runs.
type Running struct {
	Name    string   `json:"name"`
	Dir     string   `json:"dir"`
	Pid     int      `json:"pid"`
	Command []string `json:"command"`
}

// ErrNobody is returned by Find, wrapped, when no such upgrader runs.
var ErrNobody = errors.New("no upgrader is running")

// AmbiguousError is returned by Find when more than one could be meant.
type AmbiguousError struct{ Running []Running }

// Error lists them.
func (e *AmbiguousError) Error() string {
	list := make([]string, len(e.Running))
	for i, r := range e.Running {
		list[i] = fmt.Sprintf("%s (pid %d, %s)", r.Name, r.Pid, commandLine(r.Command))
	}
	return "state: several upgraders are running, say which one by --name: " + strings.Join(list, ", ")
}

// Discover gives the running upgraders of this user whose state dir is in one
// of the default places, by name. One that was given another place by
// --state-dir is only found there.
func Discover() ([]Running, error) { return here().discover() }

func (p place) discover() ([]Running, error) {
	var found []Running
	for _, base := range p.bases() {
		if checkDir(base, p.uid) != nil {
			continue // not there, or not ours: nothing in it is
		}
		entries, err := os.ReadDir(base)
		if err != nil {
			return nil, fmt.Errorf("state: list %s: %w", base, bare(err))
		}
		for _, e := range entries {
			dir := filepath.Join(base, e.Name())
			if !e.IsDir() || checkDir(dir, p.uid) != nil {
				continue
			}
			h, ok, err := running(dir)
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, Running{Name: h.Name, Dir: dir, Pid: h.Pid, Command: h.Command})
			}
		}
	}
	slices.SortFunc(found, func(a, b Running) int {
		return cmpOr(strings.Compare(a.Name, b.Name), strings.Compare(a.Dir, b.Dir))
	})
	return found, nil
}

func cmpOr(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

// running reports who holds the lock of dir. The lock is tried only when its
// holder seems to run, since trying it would disturb one who is about to take
// it.
func running(dir string) (Holder, bool, error) {
	path := filepath.Join(dir, lockName)
	h, err := readHolder(path)
	if err != nil || !h.alive() {
		return Holder{}, false, nil
	}
	f, err := openLock(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return Holder{}, false, nil
	}
	if err != nil {
		return Holder{}, false, fmt.Errorf("state: open %s: %w", path, bare(err))
	}
	defer f.Close() // and with it a lock that was taken
	free, err := tryShared(f)
	if err != nil {
		return Holder{}, false, fmt.Errorf("state: lock %s: %w", path, err)
	}
	return h, !free, nil
}

// Find gives the one that is called name, or the only one if name is "".
func Find(name string) (Running, error) {
	all, err := Discover()
	if err != nil {
		return Running{}, err
	}
	return find(all, name)
}

func find(all []Running, name string) (Running, error) {
	var fit []Running
	for _, r := range all {
		if name == "" || r.Name == name || filepath.Base(r.Dir) == name {
			fit = append(fit, r)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return Running{}, &AmbiguousError{Running: fit}
	case name != "":
		return Running{}, fmt.Errorf("state: %w by the name %s", ErrNobody, name)
	default:
		return Running{}, fmt.Errorf("state: %w", ErrNobody)
	}
}
