package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// lookAgain is how often the members of a job are counted.
const lookAgain = 20 * time.Millisecond

// Members are the processes of one generation: those of a job object, which
// their children cannot leave.
type Members struct {
	mu     sync.Mutex
	leader Identity
	job    windows.Handle // 0: there is none, or none is left in it
	err    error          // why there is none
}

// NewMembers opens the job object of that name, which the launch made; "":
// there is no job, and the leader is the only member. Marks are not needed.
// The job is released when nobody is left in it.
func NewMembers(leader Identity, job string, _ ...string) *Members {
	m := &Members{leader: leader}
	if job == "" {
		return m
	}
	name, err := windows.UTF16PtrFromString(job)
	if err == nil {
		m.job, err = windows.CreateJobObject(nil, name)
	}
	if err != nil && m.job == 0 {
		m.err = fmt.Errorf("process: open the job %s: %w", job, err)
	}
	return m
}

// Leader is the main process.
func (m *Members) Leader() Identity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leader
}

// SetLeader makes another one the main process.
func (m *Members) SetLeader(leader Identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leader = leader
}

// Add has nothing to add: who is a member is the job's to say.
func (m *Members) Add(Identity) {}

// List are all that run.
func (m *Members) List() ([]Identity, error) {
	pids, err := m.pids()
	if err != nil {
		return nil, err
	}
	var all []Identity
	for _, pid := range pids {
		id, err := Of(pid)
		switch {
		case err == nil:
			all = append(all, id)
		case !errors.Is(err, ErrGone):
			return all, err
		}
	}
	return all, nil
}

// pidList is JOBOBJECT_BASIC_PROCESS_ID_LIST with room for many.
type pidList struct {
	Assigned, Listed uint32
	Pids             [4096]uintptr
}

func (m *Members) pids() ([]int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.job == 0 {
		if m.leader.Start != 0 && m.leader.Alive() {
			return []int{m.leader.Pid}, nil
		}
		return nil, m.err
	}
	var list pidList
	err := windows.QueryInformationJobObject(m.job, windows.JobObjectBasicProcessIdList, uintptr(unsafe.Pointer(&list)), uint32(unsafe.Sizeof(list)), nil)
	if err != nil && !errors.Is(err, windows.ERROR_MORE_DATA) {
		return nil, fmt.Errorf("process: QueryInformationJobObject: %w", err)
	}
	pids := make([]int, 0, list.Listed)
	for _, pid := range list.Pids[:min(int(list.Listed), len(list.Pids))] {
		pids = append(pids, int(pid))
	}
	return pids, nil
}

// Pids are those of all that run.
func (m *Members) Pids() []int {
	all, _ := m.List() // what is known of them
	pids := make([]int, len(all))
	for i, id := range all {
		pids[i] = id.Pid
	}
	return pids
}

// Has reports whether a process of that pid is a member.
func (m *Members) Has(pid int) bool { return slices.Contains(m.Pids(), pid) }

// Signal ends all (KILL), or sends the main process any other signal.
func (m *Members) Signal(sig syscall.Signal) error {
	if sig != syscall.SIGKILL {
		return m.SignalLeader(sig)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.job == 0 {
		return m.leader.Signal(sig)
	}
	return os.NewSyscallError("TerminateJobObject", windows.TerminateJobObject(m.job, 1))
}

// SignalLeader sends the main process a signal.
func (m *Members) SignalLeader(sig syscall.Signal) error { return m.Leader().Signal(sig) }

// Empty reports whether none is left, and releases the job then.
func (m *Members) Empty() (bool, error) {
	all, err := m.List()
	if err != nil || len(all) > 0 {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.job != 0 {
		_ = windows.CloseHandle(m.job) // nobody is in it
		m.job = 0
	}
	return true, nil
}

// WaitEmpty returns when none is left, or with the context's error.
func (m *Members) WaitEmpty(ctx context.Context) error {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		if empty, err := m.Empty(); err != nil || empty {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Kill ends all and returns when none is left.
func (m *Members) Kill(ctx context.Context) error {
	if empty, err := m.Empty(); err != nil || empty {
		return err
	}
	if err := m.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, ErrGone) {
		return fmt.Errorf("process: kill: %w", err)
	}
	return m.WaitEmpty(ctx)
}

// Inodes are not told by this system.
func (m *Members) Inodes() (map[uint64]struct{}, error) {
	return nil, unsupported("sockets of members")
}

// Holding is not told by this system.
func (m *Members) Holding(uint64) (bool, error) { return true, unsupported("sockets of members") }
