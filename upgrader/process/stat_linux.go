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
	leaving  bool // has no memory any more: it is about to end
}

func readStat(pid int) (stat, error) {
	var buffer [1024]byte // the name has 64 bytes at most, each of 50 numbers 20
	b, err := readProc(pid, "stat", buffer[:])
	if err != nil {
		return stat{}, gone(err)
	}
	s, err := parseStat(b)
	if err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return s, nil
}

// readProc reads the beginning of a file of /proc by plain system calls: package os would offer each to the poller
// first, and a look reads hundreds.
func readProc(pid int, file string, buffer []byte) ([]byte, error) {
	fd, err := openProc("/proc/"+strconv.Itoa(pid)+"/"+file, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	have := 0
	for have < len(buffer) {
		n, err := unix.Read(fd, buffer[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		have += n
	}
	return buffer[:have], nil
}

func openProc(path string, flags int) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// parseStat reads one line of /proc/PID/stat (proc_pid_stat(5)). The name, in parentheses, may hold anything.
func parseStat(b []byte) (s stat, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return s, errors.New("no name in parentheses")
	}
	fields := strings.Fields(string(b[end+1:])) // from field 3
	const state, parent, group, session, threads, start, memory = 3, 4, 5, 6, 20, 22, 23
	if len(fields) <= memory-3 {
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
	s.leaving = fields[memory-3] == "0"
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

// processes is one look at all of them.
type processes struct {
	stats map[int]stat
	// vanished ended between their listing and their reading. What they were is not known, nor whether they had
	// children that were listed already.
	vanished []int
}

// chunk holds few entries: a process is read right after it was listed. The kernel lists by ascending pid, so that
// whoever is forked meanwhile is, as a rule, still to come.
const chunk = 256

func lookAtAll() (processes, error) {
	all := processes{stats: make(map[int]stat, 256)}
	dir, err := openProc("/proc", unix.O_DIRECTORY)
	if err != nil {
		return all, fmt.Errorf("process: list: %w", os.NewSyscallError("open", err))
	}
	defer unix.Close(dir)
	var buffer [chunk]byte
	names := make([]string, 0, chunk/16)
	for {
		n, err := unix.ReadDirent(dir, buffer[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("process: list: %w", os.NewSyscallError("getdents", err))
		}
		if n <= 0 {
			return all, nil
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names[:0])
		for _, name := range names {
			if pid, err := strconv.Atoi(name); err == nil {
				if err := all.add(pid); err != nil {
					return all, fmt.Errorf("process: list: %w", err)
				}
			}
		}
	}
}

func (p *processes) add(pid int) error {
	s, err := readStat(pid)
	switch {
	case err == nil:
		p.stats[pid] = s
	case errors.Is(err, ErrGone):
		p.vanished = append(p.vanished, pid)
	case errors.Is(err, fs.ErrPermission): // hidden from us (hidepid)
	default:
		return err
	}
	return nil
}
