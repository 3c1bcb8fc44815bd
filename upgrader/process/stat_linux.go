package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// stat is what we need of /proc/PID/stat.
type stat struct {
	Identity
	parent   int
	group    int
	session  int
	zombie   bool // ended: no thread is left
	headless bool // the first thread ended, others go on
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, gone(err)
	}
	s, err := parseStat(b)
	if err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return s, nil
}

// parseStat reads one line of /proc/PID/stat (proc_pid_stat(5)). The name, in parentheses, may hold anything.
func parseStat(b []byte) (s stat, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return s, errors.New("no name in parentheses")
	}
	fields := strings.Fields(string(b[end+1:])) // from field 3
	const state, parent, group, session, threads, start = 3, 4, 5, 6, 20, 22
	if len(fields) <= start-3 {
		return s, errors.New("too few fields")
	}
	var count int
	for _, f := range []struct {
		text string
		to   *int
	}{
		{strings.TrimSpace(string(b[:open])), &s.Pid},
		{fields[parent-3], &s.parent}, {fields[group-3], &s.group}, {fields[session-3], &s.session}, {fields[threads-3], &count},
	} {
		n, convErr := strconv.Atoi(f.text)
		*f.to, err = n, errors.Join(err, convErr)
	}
	n, convErr := strconv.ParseUint(fields[start-3], 10, 64)
	s.Start, err = n, errors.Join(err, convErr)
	switch fields[state-3] {
	case "Z", "X", "x":
		s.zombie, s.headless = count <= 1, count > 1
	}
	return s, err
}

// gone turns what /proc answers for a process that ended into ErrGone.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

// table is one look at all processes.
func table() (map[int]stat, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("process: list: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("process: list: %w", err)
	}
	all := make(map[int]stat, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		switch {
		case err == nil:
			all[pid] = s
		case errors.Is(err, ErrGone), errors.Is(err, fs.ErrPermission): // ended, or hidden from us (hidepid)
		default:
			return nil, fmt.Errorf("process: list: %w", err)
		}
	}
	return all, nil
}
