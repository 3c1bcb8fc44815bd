package process

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// holdingRounds bounds how often Holding looks again because the members changed.
const holdingRounds = 32

// Inodes are the inode numbers of all sockets that members hold. With an error it is what could be read: some
// member's descriptors could not (it changed its user, and we are not root).
func (m *Members) Inodes() (map[uint64]struct{}, error) {
	found, err := m.look()
	if err != nil {
		return nil, err
	}
	inodes := map[uint64]struct{}{}
	return inodes, eachSocket(found.stats, func(inode uint64) bool {
		inodes[inode] = struct{}{}
		return true
	})
}

// Holding reports whether a member holds the socket with this inode number. A daemon that passes it on by forking
// and exiting holds it all the time: no is the answer only if the members were the same before and after the look
// at their descriptors, nobody ended unseen meanwhile, and going over them in both directions found none (one member
// may hand it to another). With an error the answer is not known, and given as yes. A socket on its way between two
// members, in the queue of another socket, is held by neither.
func (m *Members) Holding(inode uint64) (bool, error) {
	before, err := m.look()
	if err != nil {
		return true, err
	}
	for range holdingRounds {
		found, unread := holds(before.stats, inode)
		if found {
			return true, nil
		}
		after, err := m.look()
		if err != nil {
			return true, err
		}
		if !before.torn && !after.torn && sameMembers(before.stats, after.stats) {
			return unread != nil, unread
		}
		before = after
	}
	return true, fmt.Errorf("process: %v: processes come and go faster than they can be looked at", m)
}

// holds looks at all descriptors, forth and back.
func holds(stats []stat, inode uint64) (found bool, unread error) {
	for range 2 {
		unread = errors.Join(unread, eachSocket(stats, func(have uint64) bool {
			found = found || have == inode
			return !found
		}))
		if found {
			return true, nil
		}
		stats = slices.Clone(stats)
		slices.Reverse(stats)
	}
	return false, unread
}

func sameMembers(a, b []stat) bool {
	return slices.EqualFunc(a, b, func(a, b stat) bool { return a.Identity == b.Identity })
}

// eachSocket calls f with the inode number of every socket of the processes, until it says false.
func eachSocket(stats []stat, f func(inode uint64) bool) error {
	var errs []error
	for _, s := range stats {
		more, err := socketsOf(s, f)
		for round := 0; errors.Is(err, unix.EACCES) && round < leavingRounds; round++ {
			now, statErr := readStat(s.Pid)
			if statErr != nil || now.Identity != s.Identity || now.zombie {
				err = ErrGone
				break
			}
			if !now.leaving {
				break // it changed its user
			}
			time.Sleep(leavingPause)
			more, err = socketsOf(s, f)
		}
		if err = gone(err); err != nil && !errors.Is(err, ErrGone) {
			errs = append(errs, fmt.Errorf("process: descriptors of %d: %w", s.Pid, err))
		}
		if !more {
			break
		}
	}
	return errors.Join(errs...)
}

// How often, and how long apart, a process is looked at that is about to end: without memory it belongs to root, as
// its folder in /proc shows it, and for a moment it still has its descriptors.
const (
	leavingRounds = 1000
	leavingPause  = time.Millisecond
)

// socketsOf is eachSocket of one process.
func socketsOf(s stat, f func(inode uint64) bool) (more bool, err error) {
	dirs, err := descriptorDirs(s)
	more = true
	for _, dir := range dirs {
		if more && err == nil {
			more, err = socketsIn(dir, f)
		}
	}
	return more, err
}

// descriptorDirs: a process whose first thread ended shows its descriptors only at the other threads.
func descriptorDirs(s stat) ([]string, error) {
	base := "/proc/" + strconv.Itoa(s.Pid)
	if !s.headless {
		return []string{base + "/fd"}, nil
	}
	tasks, err := names(base + "/task")
	dirs := make([]string, 0, len(tasks))
	for _, task := range tasks {
		if task != strconv.Itoa(s.Pid) {
			dirs = append(dirs, base+"/task/"+task+"/fd")
		}
	}
	return dirs, err
}

func socketsIn(dir string, f func(inode uint64) bool) (more bool, err error) {
	list, err := names(dir)
	if err != nil {
		return true, err
	}
	for _, name := range list {
		link, err := os.Readlink(dir + "/" + name)
		if err != nil {
			continue // closed meanwhile
		}
		number, ok := strings.CutPrefix(link, "socket:[")
		if !ok {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if err == nil && !f(inode) {
			return false, nil
		}
	}
	return true, nil
}

func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
