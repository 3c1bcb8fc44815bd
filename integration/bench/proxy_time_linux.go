package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// spending takes a rate, and the processor time in seconds that s itself spent on one of what is counted.
func spending(s *server, family bool, take func() (float64, error)) (rate, each float64, err error) {
	if s.command == nil { // what is asked without a proxy: nobody stands between
		rate, err = take()
		return rate, 0, err
	}
	pids := processesOf(s.command.Process.Pid, family)
	before, err := processorTime(pids)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if rate, err = take(); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	after, err := processorTime(pids)
	return rate, (after - before).Seconds() / took.Seconds() / rate, err
}

// processesOf gives a process, and its children if they are asked for.
func processesOf(pid int, family bool) []int {
	pids := []int{pid}
	if family {
		for child, parent := range parents() {
			if parent == pid {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// processorTime of all threads that processes have now (proc(5), schedstat). What the kernel does for their
// packets on loopback is in it.
func processorTime(pids []int) (time.Duration, error) {
	var total time.Duration
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is right
		for _, path := range threads {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // the thread has ended
			}
			var ran time.Duration
			if _, err := fmt.Sscan(string(text), &ran); err != nil {
				return 0, fmt.Errorf("%s: %w", path, err)
			}
			total += ran
		}
	}
	return total, nil
}
