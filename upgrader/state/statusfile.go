package state

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// StatusFile tells which generations run, in the format of Server::Starter. It
// is for one goroutine at a time.
type StatusFile struct {
	path string
	info fs.FileInfo // of what was written last; nil: nothing yet
}

// NewStatusFile describes a status file; nothing is written yet.
func NewStatusFile(path string) *StatusFile { return &StatusFile{path: path} }

// Write replaces the file by one with a line "GEN:PID" for each generation,
// sorted as strings are, so that 10 comes before 9.
func (f *StatusFile) Write(pids map[int]int) error {
	lines := make([]string, 0, len(pids))
	for generation, pid := range pids {
		lines = append(lines, fmt.Sprintf("%d:%d\n", generation, pid))
	}
	slices.Sort(lines)
	info, err := writeFile(f.path, []byte(strings.Join(lines, "")), 0o644)
	if err != nil {
		return err
	}
	f.info = info
	return nil
}

// Remove removes the file if it is still ours.
func (f *StatusFile) Remove() error {
	if f.info == nil {
		return nil
	}
	return removeOurs(f.path, f.info)
}
