package process

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	lonelyTime = 100 * time.Millisecond // for a main process to die of SIGKILL, and to be waited for by whoever does
	lonelyLook = 100 * time.Microsecond
)

// killLonely kills the main process at once if it has no child, and we have none but it: nobody else can be a member then, and
// clients may be waiting while looks over all processes take their time. It is a short cut, not a proof: what was forked in
// between lands with us, as a subreaper, and is found by the looks that follow.
func (m *Members) killLonely(ctx context.Context) {
	leader := m.Leader()
	if !m.descends || ctx.Err() != nil {
		return
	}
	if ours, known := children(os.Getpid()); !known || len(ours) != 1 || ours[0] != leader.Pid {
		return
	}
	if leader.Signal(syscall.SIGSTOP) != nil { // it forks no more
		return
	}
	if theirs, known := children(leader.Pid); !known || len(theirs) > 0 || leader.Signal(syscall.SIGKILL) != nil {
		return
	}
	soon, cancel := context.WithTimeout(ctx, lonelyTime)
	defer cancel()
	if leader.Wait(soon) != nil {
		return
	}
	for !childless() && soon.Err() == nil {
		time.Sleep(lonelyLook)
	}
}

// children are the children of all threads of a process, ended ones that nobody has waited for included. known: the kernel
// tells (CONFIG_PROC_CHILDREN).
func children(pid int) (pids []int, known bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	tasks, err := names(dir)
	if err != nil {
		return nil, false
	}
	for _, task := range tasks {
		b, err := os.ReadFile(filepath.Join(dir, task, "children"))
		if err != nil {
			if task == strconv.Itoa(pid) {
				return nil, false
			}
			continue // the thread has ended: its children are its siblings'
		}
		for _, field := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, false
			}
			pids = append(pids, child)
		}
	}
	return pids, true
}
