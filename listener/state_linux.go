package listener

import (
	"os"
	"slices"
	"strconv"
)

func (s *system) state() State {
	s.lock()
	defer s.unlock()
	return s.stateLocked()
}

func (s *system) saveLocked() { s.cfg.Save(s.stateLocked()) }

func (s *system) stateLocked() State {
	st := State{Boot: s.boot}
	for _, c := range s.list {
		cs := ClaimState{
			Name: c.address.Name, Spec: c.address.Spec, Network: c.at.network, Addr: c.at.addr.String(),
			Family: c.at.family, V6Only: c.at.v6only, Scope: c.at.scope, Explicit: c.explicit, Serving: c.serving, Owner: c.owner,
		}
		if c.at.onPath() {
			cs.Addr = c.at.path
		}
		order := slices.Clone(c.members)
		for _, l := range c.all {
			if !slices.Contains(order, l) {
				order = append(order, l)
			}
		}
		for _, l := range order {
			cs.Lanes = append(cs.Lanes, LaneState{
				Generation: l.gen, Cookie: l.cookie, Inode: l.inode, Name: l.name,
				MPTCP: l.mptcp, Blocking: l.blocking, Options: l.options,
			})
		}
		st.Claims = append(st.Claims, cs)
	}
	return st
}

// bootID tells one run of the kernel from another: cookies are counted anew in each.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strconv.Quote(string(b[:min(36, len(b))]))
}
