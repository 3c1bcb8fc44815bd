package process

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Members are the processes of one generation. Safe for concurrent use.
//
// Each question is answered by one fresh look over /proc. A member is: the leader; a descendant of a member; who
// was a member at an earlier look; an orphan that landed with us and whose process group or session a member
// founded; who carries all the marks in the environment that it was started with; and who is in the cgroup.
// What escapes is a process that was orphaned between two looks, left group and session, cleared its environment,
// and had no cgroup: all of it at once.
type Members struct {
	cgroup   string
	marks    [][]byte
	self     int
	descends bool // from this process, which is a subreaper: without children of ours there is no member

	mu        sync.Mutex
	leader    Identity
	known     map[Identity]struct{} // the members of the last look
	founders  map[int]uint64        // pid and start time of members that may have founded a group or a session
	strangers map[Identity]struct{} // whose environment has no marks; an environment does not change
}

// NewMembers: cgroup is the cgroup v2 directory of this generation alone, or empty; marks are KEY=VALUE, all of
// which are in the environment that the leader was given, and in no other generation's. Without marks none are looked for.
func NewMembers(leader Identity, cgroup string, marks ...string) *Members {
	m := &Members{
		cgroup: cgroup, self: os.Getpid(), leader: leader,
		known:     map[Identity]struct{}{leader: {}},
		founders:  map[int]uint64{leader.Pid: leader.Start},
		strangers: map[Identity]struct{}{},
	}
	for _, mark := range marks {
		m.marks = append(m.marks, []byte(mark))
	}
	s, err := readStat(leader.Pid)
	m.descends = err == nil && s.Identity == leader && s.parent == m.self && isSubreaper()
	return m
}

// Leader is the process that stands for the generation.
func (m *Members) Leader() Identity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leader
}

// SetLeader names another one, when the generation says that its main process is not the one that was started.
// Who was a member stays one.
func (m *Members) SetLeader(leader Identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leader = leader
	m.known[leader] = struct{}{}
	m.founders[leader.Pid] = leader.Start
}

// List is one fresh look, ordered by age. Zombies are not listed.
func (m *Members) List() ([]Identity, error) {
	found, err := m.look()
	if err != nil {
		return nil, err
	}
	list := make([]Identity, len(found.stats))
	for i, s := range found.stats {
		list[i] = s.Identity
	}
	return list, nil
}

// Pids is List without the start times; nil when it failed.
func (m *Members) Pids() []int {
	list, err := m.List()
	if err != nil {
		return nil
	}
	pids := make([]int, len(list))
	for i, id := range list {
		pids[i] = id.Pid
	}
	return pids
}

// Has reports whether pid is a running member.
func (m *Members) Has(pid int) bool {
	id, err := Of(pid)
	if err != nil {
		return false
	}
	m.mu.Lock()
	_, known := m.known[id]
	m.mu.Unlock()
	if known {
		return true
	}
	list, err := m.List()
	return err == nil && slices.Contains(list, id)
}

// members is what one look found.
type members struct {
	stats []stat // ordered by age, without zombies
	torn  bool   // somebody who may have been a member ended before it was known whether it was
}

// look finds the members, and remembers them.
func (m *Members) look() (members, error) {
	if m.descends && childless() { // no look over /proc could be surer, and this one takes no time while clients wait
		m.mu.Lock()
		defer m.mu.Unlock()
		m.rememberLocked(nil, nil)
		return members{}, nil
	}
	reaped := waitedFor()
	everybody, err := lookAtAll()
	if err != nil {
		return members{}, err
	}
	all := everybody.stats
	contained := cgroupPids(m.cgroup)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(all, m.self) // never a member, nor does anything descend from us for being our child
	delete(all, 1)
	children := make(map[int][]stat, len(all))
	result := members{torn: m.torn(everybody, waitedFor() != reaped)}
	var found []stat
	for _, s := range all {
		children[s.parent] = append(children[s.parent], s)
		if _, in := contained[s.Pid]; in || m.seedLocked(s, &result.torn) {
			found = append(found, s)
		}
	}
	closure := make(map[int]stat, len(found))
	for len(found) > 0 { // the closure over descendants
		s := found[len(found)-1]
		found = found[:len(found)-1]
		if _, have := closure[s.Pid]; have {
			continue
		}
		closure[s.Pid] = s
		for _, child := range children[s.Pid] {
			if child.Start >= s.Start { // an older one was the child of an earlier user of this pid
				found = append(found, child)
			}
		}
	}
	m.rememberLocked(all, closure)
	for _, s := range closure {
		if !s.zombie {
			result.stats = append(result.stats, s)
		}
	}
	slices.SortFunc(result.stats, func(a, b stat) int { return byAge(a.Identity, b.Identity) })
	return result, nil
}

// torn reports whether one of those who vanished may have been a member. Others end all the time on a busy host, which
// means nothing: above each member that descends from this process is a child of ours that is one, too. While that one
// is there, it is found; when it has ended, it was waited for.
func (m *Members) torn(everybody processes, waited bool) bool {
	switch {
	case len(everybody.vanished) == 0:
		return false
	case !m.descends || waited:
		return true
	}
	for _, s := range everybody.stats { // what came of one who vanished is not known
		if slices.Contains(everybody.vanished, s.parent) {
			return true
		}
	}
	return false
}

// seedLocked reports whether s is a member by itself, without being the descendant of one.
func (m *Members) seedLocked(s stat, torn *bool) bool {
	if _, known := m.known[s.Identity]; known {
		return true
	}
	if s.zombie {
		return false
	}
	return s.parent == m.self && m.foundedLocked(s) || m.markedLocked(s, torn)
}

// foundedLocked: the pid of a founder is not used again while its group or session has a member.
func (m *Members) foundedLocked(s stat) bool {
	for _, id := range []int{s.group, s.session} {
		if start, ok := m.founders[id]; ok && id != s.Pid && start <= s.Start {
			return true
		}
	}
	return false
}

func (m *Members) markedLocked(s stat, torn *bool) bool {
	id := s.Identity
	if len(m.marks) == 0 {
		return false
	}
	if _, ok := m.strangers[id]; ok {
		return false
	}
	orphan := s.parent == m.self
	b, err := environ(s, orphan)
	if err != nil || len(b) == 0 { // not ours to read, or it has none: kernel threads, and some programs
		if err == nil && orphan {
			m.strangers[id] = struct{}{} // not to be waited for again
		}
		*torn = *torn || errors.Is(err, ErrGone) && (!m.descends || orphan)
		return false
	}
	variables := bytes.Split(b, []byte{0})
	for _, mark := range m.marks {
		if !slices.ContainsFunc(variables, func(v []byte) bool { return bytes.Equal(v, mark) }) {
			m.strangers[id] = struct{}{}
			return false
		}
	}
	return true
}

// How long, and how often, an orphan that seems to have no environment is looked at.
const (
	executingFor   = 300 * time.Millisecond
	executingPause = 100 * time.Microsecond
)

// environ is the environment that the process was started with. While it is being executed it seems to have none, and
// from then on until it runs who started it may have ended: an orphan, who may be nobody's descendant but a member, is
// asked again, on a busy machine for long.
func environ(s stat, orphan bool) (b []byte, err error) {
	for until := time.Now().Add(executingFor); ; time.Sleep(executingPause) {
		b, err = os.ReadFile("/proc/" + strconv.Itoa(s.Pid) + "/environ")
		if err = gone(err); err != nil || len(b) > 0 || !orphan {
			return b, err
		}
		now, err := readStat(s.Pid)
		switch {
		case err != nil:
			return nil, err
		case now.Identity != s.Identity || now.zombie || now.leaving:
			return nil, ErrGone
		case time.Now().After(until):
			return nil, nil
		}
	}
}

// rememberLocked keeps what the next look needs: the members, the founders whose group or session has somebody in
// it, and the strangers that still run.
func (m *Members) rememberLocked(all, members map[int]stat) {
	clear(m.known)
	used := make(map[int]struct{}, 2*len(members))
	for _, s := range members {
		m.known[s.Identity] = struct{}{}
		m.founders[s.Pid] = s.Start
		used[s.Pid], used[s.group], used[s.session] = struct{}{}, struct{}{}, struct{}{}
	}
	maps.DeleteFunc(m.founders, func(pid int, start uint64) bool {
		if _, ok := used[pid]; !ok {
			return true
		}
		s, ok := all[pid]
		return ok && s.Start != start
	})
	maps.DeleteFunc(m.strangers, func(id Identity, _ struct{}) bool { return all[id.Pid].Identity != id })
}

// Signal sends sig to every member. That one ended meanwhile is no error.
func (m *Members) Signal(sig syscall.Signal) error {
	list, err := m.List()
	if err != nil {
		return err
	}
	return signalAll(list, sig)
}

func signalAll(list []Identity, sig syscall.Signal) error {
	var errs []error
	for _, id := range list {
		if err := id.Signal(sig); err != nil && !errors.Is(err, ErrGone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// SignalLeader sends sig to the leader. ErrGone when it has ended.
func (m *Members) SignalLeader(sig syscall.Signal) error { return m.Leader().Signal(sig) }

// emptyRounds bounds how often Empty looks again because it could not see everybody.
const emptyRounds = 32

// Empty reports whether no member is left, by two looks at which nobody ended unseen: what was forked in a corner
// that the first one had passed is there for the second.
func (m *Members) Empty() (bool, error) {
	calm := 0
	for range emptyRounds {
		found, err := m.look()
		if err != nil || len(found.stats) > 0 {
			return false, err
		}
		if !found.torn {
			calm++
		}
		if calm == 2 {
			break
		}
	}
	return true, nil // on a system that is never calm, none was seen so many times
}

func (m *Members) String() string {
	return fmt.Sprintf("members of %d", m.Leader().Pid)
}
