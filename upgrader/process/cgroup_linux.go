package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// NewCgroup makes a cgroup v2 directory called name below the one of this process, for one generation. It fails
// with ErrNoCgroup where none can be made or entered: no cgroup v2, mounted read-only, not delegated to this user.
func NewCgroup(name string) (dir string, err error) {
	own, err := ownCgroup()
	if err != nil {
		return "", fmt.Errorf("process: %w: %w", ErrNoCgroup, err)
	}
	// Moving a process takes the permission to write cgroup.procs of the common ancestor, which is our own.
	if err := unix.Access(filepath.Join(own, "cgroup.procs"), unix.W_OK); err != nil {
		return "", fmt.Errorf("process: %w: enter below %s: %w", ErrNoCgroup, own, err)
	}
	dir = filepath.Join(own, name)
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) && RemoveCgroup(dir) == nil { // an empty one is left from a run that was killed
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return "", fmt.Errorf("process: %w: %w", ErrNoCgroup, err)
	}
	kind, err := os.ReadFile(filepath.Join(dir, "cgroup.type"))
	if err != nil || strings.TrimSpace(string(kind)) != "domain" { // in a threaded tree it cannot have processes
		_ = os.Remove(dir) // just made
		return "", fmt.Errorf("process: %w: %s is %q (%v)", ErrNoCgroup, dir, strings.TrimSpace(string(kind)), err)
	}
	return dir, nil
}

// RemoveCgroup removes the directory and those below it, once no process is in them. That there is none is no error.
func RemoveCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = os.Remove(dirs[i])
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("process: remove cgroup: %w", err)
	}
	return nil
}

// ownCgroup is the directory of this process's cgroup in the v2 hierarchy.
func ownCgroup() (string, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	own := ""
	for line := range strings.Lines(string(groups)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			own = strings.TrimSuffix(path, "\n")
		}
	}
	if own == "" {
		return "", errors.New("not in a cgroup v2")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	dir, ok := cgroupDir(string(mounts), own)
	if !ok {
		return "", errors.New("no cgroup v2 file system is mounted")
	}
	return dir, nil
}

// cgroupDir finds where the cgroup is mounted (proc_pid_mountinfo(5): "ID PARENT DEV ROOT POINT OPTIONS... - TYPE ...").
func cgroupDir(mounts, cgroup string) (string, bool) {
	for line := range strings.Lines(mounts) {
		left, right, ok := strings.Cut(line, " - ")
		fields := strings.Fields(left)
		if !ok || len(fields) < 5 || !strings.HasPrefix(right, "cgroup2 ") {
			continue
		}
		root, point := unescape(fields[3]), unescape(fields[4])
		rest, below := strings.CutPrefix(cgroup, strings.TrimSuffix(root, "/"))
		if below && (rest == "" || rest[0] == '/') && !strings.Contains(rest, "/..") {
			return filepath.Join(point, rest), true
		}
	}
	return "", false
}

// unescape undoes \040 and its like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// cgroupPids are the processes in the directory and below. What cannot be read is left out: the other ways to find
// members remain.
func cgroupPids(dir string) map[int]struct{} {
	pids := map[int]struct{}{}
	if dir == "" {
		return pids
	}
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil
		}
		b, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, field := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 { // 0: not in our pid namespace
				pids[pid] = struct{}{}
			}
		}
		return nil
	})
	return pids
}

// killCgroup kills all in the directory and below (cgroup.kill, since Linux 5.14); where it cannot, others do.
func killCgroup(dir string) {
	if dir != "" {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) // never created: the file system has none else
	}
}
