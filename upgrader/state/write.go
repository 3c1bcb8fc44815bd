package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// temporaryMark is in the names of files that are not whole yet.
const temporaryMark = ".upgrader-tmp-"

// writeFile replaces path by a file with data, in one step. It refuses to
// replace what is not a regular file. It does not wait for the disk: pids mean
// nothing after the next boot.
func writeFile(path string, data []byte, mode fs.FileMode) (fs.FileInfo, error) {
	f, err := temporary(path, data, mode)
	if err != nil {
		return nil, err
	}
	return closeAndReplace(f, path)
}

// closeAndReplace renames what temporary made to path, closed: not every
// system renames an open file.
func closeAndReplace(f *os.File, path string) (fs.FileInfo, error) {
	info, err := f.Stat()
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = rename(f.Name(), path)
	}
	return info, err
}

// temporary makes a file beside path with data in it. The caller renames or
// removes it, and closes it.
func temporary(path string, data []byte, mode fs.FileMode) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("state: %s is not a regular file (%s)", path, info.Mode().Type())
	}
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+base+temporaryMark)
	if err != nil {
		return nil, fmt.Errorf("state: write %s: %w", path, bare(err))
	}
	if err = f.Chmod(mode); err == nil || errors.Is(err, errors.ErrUnsupported) {
		_, err = f.Write(data)
	}
	if err != nil {
		f.Close()
		_ = os.Remove(f.Name()) // the error is told
		return nil, fmt.Errorf("state: write %s: %w", path, bare(err))
	}
	return f, nil
}

// replace renames what temporary made to path, open.
func replace(f *os.File, path string) (fs.FileInfo, error) {
	info, err := f.Stat()
	if err == nil {
		err = rename(f.Name(), path)
	}
	return info, err
}

// rename moves a temporary file to path, or removes it.
func rename(from, path string) error {
	if err := os.Rename(from, path); err != nil {
		_ = os.Remove(from) // the error is told
		return fmt.Errorf("state: write %s: %w", path, bareLink(err))
	}
	return nil
}

// sweep removes files that a killed upgrader did not finish.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // the next write will say why
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), temporaryMark) {
			_ = os.Remove(filepath.Join(dir, e.Name())) // nobody reads it
		}
	}
}

// removeOurs removes path if it still is the file that info is of.
func removeOurs(path string, info fs.FileInfo) error {
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, info) {
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state: remove %s: %w", path, bare(err))
	}
	return nil
}

// bareLink drops the operation and paths of an error of a rename or link.
func bareLink(err error) error {
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return bare(err)
}
