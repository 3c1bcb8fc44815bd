package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is one line of the process table.
type process struct {
	pid, parent int
	state       string // Z: ended, not waited for
	name        string
}

func (p process) String() string { return fmt.Sprintf("%d (%s, %s)", p.pid, p.name, p.state) }

// processes reads the process table.
func processes() map[int]process {
	all := map[int]process{}
	folders, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	for _, f := range folders {
		text, err := os.ReadFile(f + "/stat")
		if err != nil {
			continue // it ended meanwhile
		}
		// PID (NAME) STATE PPID ...; the name may hold anything, a parenthesis too.
		open, close := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		rest := strings.Fields(string(text[close+1:]))
		pid, err1 := strconv.Atoi(strings.TrimSpace(string(text[:open])))
		parent, err2 := strconv.Atoi(rest[1])
		if err1 == nil && err2 == nil {
			all[pid] = process{pid: pid, parent: parent, state: rest[0], name: string(text[open+1 : close])}
		}
	}
	return all
}

// descendants gives the processes under root, but not those under the pids in
// but. Ended ones that nobody waited for are reaped where they are ours.
func descendants(root int, but ...int) []process {
	all := processes()
	children := map[int][]int{}
	for pid, p := range all {
		children[p.parent] = append(children[p.parent], pid)
	}
	var found []process
	var walk func(int)
	walk = func(pid int) {
		for _, child := range children[pid] {
			if slices.Contains(but, child) {
				continue
			}
			if p := all[child]; p.state != "Z" {
				found = append(found, p)
			}
			walk(child)
		}
	}
	walk(root)
	slices.SortFunc(found, func(a, b process) int { return a.pid - b.pid })
	return found
}

// descriptors gives what a process has open, by number.
func descriptors(pid int) map[int]string {
	open := map[int]string{}
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return open
	}
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if target, err := os.Readlink(filepath.Join(folder, e.Name())); err == nil {
			open[number] = target
		}
	}
	return open
}

// lasting counts descriptors without pipes of which both ends are there: those
// are the runtime's own, kept for splice(2) until the next collection.
func lasting(open map[int]string) int {
	ends := map[string]int{}
	for _, target := range open {
		ends[target]++
	}
	n := 0
	for _, target := range open {
		if !strings.HasPrefix(target, "pipe:") || ends[target] == 1 {
			n++
		}
	}
	return n
}

// sockets counts the descriptors that are sockets.
func sockets(open map[int]string) int {
	n := 0
	for _, target := range open {
		if strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}

// killAll ends processes. Only descendants of the test process are ever given
// to it.
func killAll(all []process) {
	for _, p := range all {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may be gone already
	}
}
