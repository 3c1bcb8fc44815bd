package process

import (
	"os"
	"slices"
)

// Add makes id a member, whatever else is known of it: it was seen with something that only the generation has.
func (m *Members) Add(id Identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[id] = struct{}{}
	m.founders[id.Pid] = id.Start
}

// Children are the running children of this process, ordered by age; as a subreaper it has its descendants' orphans
// among them.
func Children() ([]Identity, error) {
	if childless() {
		return nil, nil
	}
	everybody, err := lookAtAll()
	if err != nil {
		return nil, err
	}
	self := os.Getpid()
	var list []Identity
	for _, s := range everybody.stats {
		if s.parent == self && !s.zombie {
			list = append(list, s.Identity)
		}
	}
	slices.SortFunc(list, byAge)
	return list, nil
}

// All are the running processes, ordered by age, this one not among them.
func All() ([]Identity, error) {
	everybody, err := lookAtAll()
	if err != nil {
		return nil, err
	}
	self := os.Getpid()
	var list []Identity
	for _, s := range everybody.stats {
		if s.Pid != self && !s.zombie {
			list = append(list, s.Identity)
		}
	}
	slices.SortFunc(list, byAge)
	return list, nil
}

// byAge orders processes by start time, then by pid.
func byAge(a, b Identity) int {
	if a.Start != b.Start {
		return int(int64(a.Start - b.Start))
	}
	return a.Pid - b.Pid
}

// Sockets are the inode numbers of the sockets that the process has open. ErrGone when it has ended.
func (id Identity) Sockets() (map[uint64]struct{}, error) {
	s, err := readStat(id.Pid)
	if err != nil {
		return nil, err
	}
	if s.Identity != id || s.zombie {
		return nil, ErrGone
	}
	found := map[uint64]struct{}{}
	err = eachSocket([]stat{s}, func(inode uint64) bool {
		found[inode] = struct{}{}
		return true
	})
	return found, err
}
