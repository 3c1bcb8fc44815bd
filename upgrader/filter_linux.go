package upgrader

import (
	"github.com/upgrader/upgrader/listener/intercept"
	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/launch"
)

// filter is what has us asked about the calls of a server that pid, its shim,
// becomes: its binds if takes says so, and those by which it would reach the
// segment at these numbers, if there are any. learns: its sockets cannot be
// looked at.
func (s *Service) filter(pid int, takes bool, numbers []int) (f launch.Filter, learns bool) {
	o := intercept.FilterOptions{NoBinds: !takes}
	if takes {
		learns = !intercept.Capable(pid).PidfdGetfd
		o.Learn = learns
	}
	if len(numbers) > 0 {
		o.Reach = s.memory.reach(numbers)
	}
	f.Program, f.Flags = intercept.Filter(o)
	return f, learns
}

// reach says by which calls a server would reach the segment, whose
// descriptors it gets at these numbers.
func (m *memory) reach(numbers []int) intercept.Reach {
	if m.segment.Spec().Kind == shmbridge.SysV { // the page alone is a descriptor
		return intercept.Reach{SystemV: true, Numbers: numbers}
	}
	return intercept.Reach{Mapped: true, Numbers: numbers, WritesToo: true}
}
