package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// parents gives the parent of every process.
func parents() map[int]int {
	found := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path))) // by the pattern
		// pid (name) state ppid: a name may hold anything.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) > 1 {
			found[pid], _ = strconv.Atoi(string(fields[1])) // the kernel writes numbers
		}
	}
	return found
}

// descendants gives the processes that come of this one.
func descendants() []int {
	all := parents()
	var found []int
	for pid := range all {
		for p := pid; p > 1; p = all[p] {
			if all[p] == os.Getpid() {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// endDescendants kills what is left of what this process started, and tells
// how many they were. This process is their subreaper.
func endDescendants() int {
	found := 0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		left := descendants()
		if len(left) == 0 {
			break
		}
		alive := 0
		for _, pid := range left {
			if unix.Kill(pid, 0) == nil && !zombie(pid) {
				alive++
				_ = unix.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
			}
		}
		found = max(found, alive)
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
		pause(time.Millisecond)
	}
	return found
}

func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	return len(fields) > 0 && string(fields[0]) == "Z"
}

// watch opens a process to be waited for. The caller closes it.
func watch(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "process"), nil
}

// awaitGone waits until the process that pidfd stands for has ended.
func awaitGone(pidfd *os.File, deadline time.Time) error {
	polls := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polls, max(0, int(time.Until(deadline).Milliseconds())))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("watch process: %w", err)
		case n > 0:
			return nil
		default:
			return fmt.Errorf("a process does not end: %w", os.ErrDeadlineExceeded)
		}
	}
}

// pss is the proportional set size of a process in MB (10^6 bytes).
func pss(pid int) (float64, error) { return pssOf(pid, "Pss:") }

// ownPss is that without pages of files, which are those of its program: how many of them it has used lately is no
// matter of what it holds.
func ownPss(pid int) (float64, error) { return pssOf(pid, "Pss_Anon:", "Pss_Shmem:") }

// pssOf sums fields of smaps_rollup (proc(5)).
func pssOf(pid int, names ...string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	total, found := 0, 0
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) > 1 && slices.Contains(names, string(fields[0])) {
			kib, err := strconv.Atoi(string(fields[1]))
			if err != nil {
				return 0, err
			}
			total, found = total+kib, found+1
		}
	}
	if found < len(names) {
		return 0, fmt.Errorf("no %s of process %d", strings.Join(names, ", "), pid)
	}
	return float64(total) * 1024 / 1e6, nil
}
