package process

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// defaultGrace is long against the time that a woken waiter takes, short against a table full of zombies.
const defaultGrace = time.Second

// Reaper reaps zombies that nobody else waits for: the orphans that a subreaper, or process 1, inherits. The zero
// value is ready.
//
// It peeks with WNOWAIT and takes a status only of a process that was not registered with Start, and has lain for
// Grace: so that even a child that somebody started without a word (os/exec) is waited for by that somebody first.
type Reaper struct {
	Grace  time.Duration                            // 0: 1 s
	Reaped func(pid int, status syscall.WaitStatus) // may be nil; called from Run

	mu   sync.Mutex
	ours map[int]uint64 // pid and start time
	seen map[Identity]time.Time
}

// Start calls start, which forks a child, and registers the pid that it returns, so that the child's status is left
// to whoever waits for it. No zombie is reaped meanwhile.
func (r *Reaper) Start(start func() (pid int, err error)) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := start()
	if err != nil {
		return pid, err
	}
	if s, err := readStat(pid); err == nil { // else it was waited for already
		if r.ours == nil {
			r.ours = map[int]uint64{}
		}
		r.ours[pid] = s.Start
	}
	return pid, nil
}

// Forget ends a registration: the child was waited for. (Run forgets those that it finds gone, too.)
func (r *Reaper) Forget(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ours, pid)
}

// Run reaps until ctx ends; then it returns nil.
func (r *Reaper) Run(ctx context.Context) error {
	died := make(chan os.Signal, 1) // SIGCHLD is not counted: one says "look"
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	for {
		next, err := r.pass(time.Now())
		if err != nil {
			return fmt.Errorf("process: reap: %w", err)
		}
		timer := time.NewTimer(max(next, 0))
		due := timer.C
		if next == 0 {
			due = nil
		}
		select {
		case <-ctx.Done():
		case <-died:
		case <-due:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// pass reaps what is due, and says after how long something else will be (0: nothing lies there).
func (r *Reaper) pass(now time.Time) (next time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if any, err := anyZombie(); err != nil || !any {
		clear(r.seen)
		return 0, err
	}
	// A peek shows the first zombie only, and that may be one that is left to its waiter: the table has the others.
	everybody, err := lookAtAll()
	if err != nil {
		return 0, err
	}
	all := everybody.stats
	maps.DeleteFunc(r.ours, func(pid int, start uint64) bool { return all[pid].Start != start })
	self, grace, lying := os.Getpid(), r.Grace, map[Identity]time.Time{}
	if grace <= 0 {
		grace = defaultGrace
	}
	for pid, s := range all {
		if _, ours := r.ours[pid]; ours || s.parent != self || !s.zombie {
			continue
		}
		since, ok := r.seen[s.Identity]
		if !ok {
			since = now
		}
		if wait := grace - now.Sub(since); wait > 0 {
			lying[s.Identity] = since
			if next == 0 || wait < next {
				next = wait
			}
			continue
		}
		r.reap(pid)
	}
	r.seen = lying
	return next, nil
}

func (r *Reaper) reap(pid int) {
	var status unix.WaitStatus
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	if err == nil && got == pid && r.Reaped != nil { // else its waiter was quicker after all
		r.Reaped(pid, syscall.WaitStatus(status))
	}
}

// peek looks whether a child of ours, of any thread, has ended, and leaves it as it is. ECHILD: there is no child at all.
func peek() (ended bool, err error) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == nil && info.Signo != 0, err
		}
	}
}

// anyZombie tells whether a child of ours, of any thread, has ended.
func anyZombie() (bool, error) {
	ended, err := peek()
	if err != nil && err != unix.ECHILD {
		return false, os.NewSyscallError("waitid", err)
	}
	return ended, nil
}

// waitedFor is another value when a child was waited for in between: none ends without having taken time or pages.
func waitedFor() (all unix.Rusage) {
	_ = unix.Getrusage(unix.RUSAGE_CHILDREN, &all) // it cannot fail
	return all
}

// childless tells whether this process has no child at all, ended ones included.
func childless() bool {
	_, err := peek()
	return err == unix.ECHILD
}
