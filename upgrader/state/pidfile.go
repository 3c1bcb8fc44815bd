package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// PidFileConfig describes a pid file.
type PidFileConfig struct {
	Path        string
	Pid         int // what it names; 0: this process
	Predecessor int // an upgrader whose file may be replaced while it runs; 0: none
}

// PidFile is a file that names this process, for as long as it runs. Where
// the file system can, it is locked (flock) from before it appears: that it is
// locked proves that it is not stale, whatever happened to the pid since.
type PidFile struct {
	path string
	file *os.File // has the lock; nil: without one
	info fs.FileInfo
}

// PidFileError says that a running process has the pid file.
type PidFileError struct {
	Path string
	Pid  int // 0: not known
}

// Error names the process.
func (e *PidFileError) Error() string {
	if e.Pid == 0 {
		return fmt.Sprintf("state: the pid file %s belongs to another process that runs", e.Path)
	}
	return fmt.Sprintf("state: the pid file %s belongs to pid %d, which runs", e.Path, e.Pid)
}

// WritePidFile writes "PID\n" by rename and holds a flock on it, as
// Server::Starter does. A stale file is replaced; one whose process still
// holds it is a *PidFileError.
func WritePidFile(c PidFileConfig) (*PidFile, error) {
	if c.Pid == 0 {
		c.Pid = os.Getpid()
	}
	f, err := temporary(c.Path, []byte(strconv.Itoa(c.Pid)+"\n"), 0o644)
	if err != nil {
		return nil, err
	}
	p := &PidFile{path: c.Path}
	if renamesOpen {
		err = p.place(c, f)
	} else {
		p.info, err = closeAndReplace(f, c.Path)
	}
	if err != nil {
		_ = f.Close()           // it was not used
		_ = os.Remove(f.Name()) // may be renamed already
		return nil, err
	}
	return p, nil
}

// place locks f and moves it to its path.
func (p *PidFile) place(c PidFileConfig, f *os.File) error {
	if _, err := tryLock(f); err != nil && !cannotLock(err) {
		return fmt.Errorf("state: lock the pid file %s: %w", c.Path, err)
	}
	p.file = f
	deadline := time.Now().Add(patience)
	for {
		err := os.Link(f.Name(), c.Path) // fails if there is one
		switch {
		case err == nil:
			_ = os.Remove(f.Name()) // swept at most
			p.info, err = f.Stat()
			return err
		case cannotLink(err):
			p.info, err = replace(f, c.Path)
			return err
		case !errors.Is(err, fs.ErrExist):
			return fmt.Errorf("state: write %s: %w", c.Path, bareLink(err))
		}
		done, err := p.replaceStale(c, f)
		if done || err == nil && time.Now().Before(deadline) {
			if done {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err == nil {
			err = &PidFileError{Path: c.Path}
		}
		return err
	}
}

// replaceStale moves f over the file that is there, if nobody has that one.
// It holds its lock meanwhile, so that of two newcomers one sees the other.
// It reports false without an error when it has to be tried again.
func (p *PidFile) replaceStale(c PidFileConfig, f *os.File) (bool, error) {
	old, err := os.Open(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("state: read the pid file %s: %w", c.Path, bare(err))
	}
	defer old.Close() // it was only read
	free, err := tryLock(old)
	if err != nil && !cannotLock(err) {
		return false, fmt.Errorf("state: lock the pid file %s: %w", c.Path, err)
	}
	if free || err != nil {
		if same, err := names(c.Path, old); err != nil || !same {
			return false, nil
		}
		p.info, err = replace(f, c.Path)
		return err == nil, err
	}
	pid := readPid(old)
	if pid != 0 && pid == c.Predecessor {
		p.info, err = replace(f, c.Path)
		return err == nil, err
	}
	if _, runs := startTime(pid); !runs {
		return false, nil // a newcomer is replacing it just now, or a child of who was killed has not executed yet
	}
	return false, &PidFileError{Path: c.Path, Pid: pid}
}

// readPid gives the pid that a file names, 0 if none.
func readPid(r io.Reader) int {
	data, err := io.ReadAll(io.LimitReader(r, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// Remove removes the file if it is still ours, and releases its lock.
func (p *PidFile) Remove() error {
	err := removeOurs(p.path, p.info)
	if p.file != nil {
		_ = p.file.Close() // nothing is written to it any more
		p.file = nil
	}
	return err
}
