package listener

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// taker finds a descriptor for a socket by what it is known by; -1 when it cannot be had.
type taker func(LaneState) int

func (s *system) adopt(st State, gen int, pidfds []*os.File) error {
	if st.Boot != s.boot {
		st.boot()
	}
	return s.adoptAll(st, gen, false, fromProcesses(pidfds))
}

// boot forgets cookies that another run of the kernel gave.
func (st *State) boot() {
	claims := make([]ClaimState, len(st.Claims))
	for i, c := range st.Claims {
		c.Lanes = nil
		claims[i] = c
	}
	st.Claims = claims
}

func (s *system) adoptFiles(st State, files []*os.File) error {
	return s.adoptAll(st, 0, true, func(ls LaneState) int {
		for _, f := range files {
			fd := -1
			raw, err := f.SyscallConn()
			if err != nil {
				continue
			}
			_ = raw.Control(func(h uintptr) { // a closed file has no lane
				if cookie, _, err := identify(int(h)); err != nil || cookie != ls.Cookie {
					return
				}
				if fd, err = unix.FcntlInt(h, unix.F_DUPFD_CLOEXEC, 3); err != nil {
					fd = -1
				}
			})
			if fd >= 0 {
				return fd
			}
		}
		return -1
	})
}

// fromProcesses takes sockets out of processes by pidfd_getfd(2) (Linux 5.6), which needs what ptrace needs.
func fromProcesses(pidfds []*os.File) taker {
	return func(ls LaneState) int {
		for _, f := range pidfds {
			fd := -1
			raw, err := f.SyscallConn()
			if err != nil {
				continue
			}
			_ = raw.Control(func(h uintptr) { fd = fromProcess(int(h), ls) }) // closed: nothing to take
			if fd >= 0 {
				return fd
			}
		}
		return -1
	}
}

func fromProcess(pidfd int, ls LaneState) int {
	dir, err := descriptorsOf(pidfd)
	if err != nil {
		return -1
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return -1
	}
	for _, e := range entries {
		link, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || link != fmt.Sprintf("socket:[%d]", ls.Inode) {
			continue
		}
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// The pid may be another's by now, the pidfd cannot be; and the cookie proves the socket.
		fd, err := unix.PidfdGetfd(pidfd, n, 0) // close-on-exec
		if err != nil {
			continue
		}
		if cookie, _, err := identify(fd); err == nil && cookie == ls.Cookie {
			return fd
		}
		unix.Close(fd)
	}
	return -1
}

func (s *system) adoptAll(st State, gen int, intact bool, take taker) error {
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	if len(s.list) > 0 {
		return errors.New("listener: adopt: the set has claims already")
	}
	for _, cs := range st.Claims {
		c, err := s.claimOf(cs)
		if err != nil {
			return fmt.Errorf("listener: adopt %s: %w", cs.Addr, err)
		}
		c.adopted, c.intact = true, intact
		err = s.adoptClaimLocked(c, cs, gen, take)
		if errors.Is(err, unix.EADDRINUSE) {
			return inUse(c.at, err)
		}
		if err != nil {
			return fmt.Errorf("listener: adopt %s: %w", cs.Addr, err)
		}
	}
	return nil
}

func (s *system) claimOf(cs ClaimState) (*Claim, error) {
	at := endpoint{network: cs.Network, family: cs.Family, v6only: cs.V6Only, scope: cs.Scope}
	a := Address{Name: cs.Name, Network: cs.Network, Spec: cs.Spec}
	if cs.Spec != "" {
		parsed, err := ParseAddress(cs.Spec)
		if err != nil {
			return nil, err
		}
		parsed.Name = cs.Name
		a = parsed
	}
	if onPath(cs.Network) {
		at.path, a.Path = cs.Addr, cs.Addr
	} else {
		var err error
		if at.addr, err = netip.ParseAddrPort(cs.Addr); err != nil {
			return nil, err
		}
		a.Port = int(at.addr.Port())
		if cs.Spec == "" {
			a.Host = at.addr.Addr().String()
		}
	}
	return &Claim{address: a, explicit: cs.Explicit, claimSystem: claimSystem{set: s, at: at, serving: nobody, owner: cs.Owner}}, nil
}

// adoptClaimLocked makes a claim of what lives on of its lanes, in the order of the kernel's group as far as it can be known.
func (s *system) adoptClaimLocked(c *Claim, cs ClaimState, gen int, take taker) error {
	living, err := c.living(cs)
	if err != nil {
		return err
	}
	if len(living) == 0 {
		if !cs.Explicit {
			return nil
		}
		if err := s.openClaimLocked(c); err != nil {
			return err
		}
		if _, err := s.listeningLaneLocked(c, 0, nil, false); err != nil {
			s.dropClaimLocked(c)
			return err
		}
		return nil
	}
	if err := s.startLocked(); err != nil {
		return err
	}
	if c.at.onPath() {
		if c.dir, err = openDirectory(c.at.path); err != nil {
			return err
		}
		c.dir.sweep()
		s.watchPathLocked(c)
	}
	s.list = append(s.list, c)
	c.serving = cs.Serving
	heir := cs.Serving // whose lanes are steered to
	if gen != 0 && cs.Serving > 0 {
		c.serving = gen
		// Clients may have been queueing for a successor (exclusive) that is not there: its lane died with who held it.
		if slices.ContainsFunc(living, func(ls LaneState) bool { return ls.Generation == gen }) {
			heir = gen
		}
	}
	taken := false
	for _, ls := range living {
		l := &Lane{claim: c, laneSystem: laneSystem{
			set: s, gen: ls.Generation, fd: take(ls), cookie: ls.Cookie, inode: ls.Inode, state: laneMember,
			handed: ls.Generation != 0, mptcp: ls.MPTCP, name: ls.Name, options: ls.Options, blocking: ls.Blocking,
		}}
		if ls.Generation == heir {
			l.gen, l.steered = c.serving, true
		}
		c.all = append(c.all, l)
		switch {
		case l.fd >= 0 && c.at.network == "tcp" && !listens(l.fd):
			l.state, l.steered = laneBound, false
			if l.handed && ls.Generation == heir {
				l.state = laneShut // refused by our predecessor
				l.steered = true
			}
			continue
		case l.fd >= 0:
			taken = true
		}
		c.members = append(c.members, l)
	}
	if err := s.sortOutLocked(c); err != nil {
		return err
	}
	for _, l := range c.all {
		c.refused = c.refused || l.state == laneShut
	}
	if len(c.members) > 0 && !taken && !c.at.onPath() {
		// Ours joins beside, the program is attached through it at once, and what strayed into it meanwhile is relayed.
		l, err := s.newLaneLocked(c, 0, living[0].Options, false, true)
		if err != nil {
			return err
		}
		l.beside = true // and does not block while it is ours
		l.blocking = living[0].Blocking
		if err := s.joinLocked(l); err != nil {
			s.destroyLocked(l)
			return err
		}
	}
	if len(c.steeredLocked()) == 0 && len(c.all) > 0 {
		c.all[0].steered, c.serving = true, c.all[0].gen
	}
	if c.at.onPath() && !c.refused {
		s.putBackLocked(c)
	}
	s.kickLocked()
	return s.attachLocked(c)
}

// sortOutLocked makes sure of the indices that matter. An upgrader that dies closes its lanes in an order that nobody sees, so
// that of lanes of several generations it is not known which is where. Those that are not steered to leave, if they are ours.
func (s *system) sortOutLocked(c *Claim) error {
	if c.at.network != "tcp" || c.intact {
		return nil
	}
	for i := 0; i < len(c.members); {
		l := c.members[i]
		if l.steered || l.fd < 0 {
			i++
			continue
		}
		_ = unix.SetNonblock(l.fd, true) // cannot fail on a socket
		if err := s.drainLocked(l); err != nil {
			return err
		}
		if err := unix.Shutdown(l.fd, unix.SHUT_RDWR); err != nil {
			return os.NewSyscallError("shutdown", err)
		}
		l.state = laneOut
		c.members = removed(c.members, i)
	}
	return nil
}

// living are the lanes of a state whose sockets are there; a socket in their place that the state does not know is a stranger's.
func (c *Claim) living(cs ClaimState) ([]LaneState, error) {
	there := map[uint64]bool{}
	if c.at.onPath() {
		if err := diagUnix(anyState, func(d diagSocket) { there[d.cookie] = true }); err != nil {
			return nil, err
		}
	} else {
		// A lane that refuses clients, or that its guest has not listened on, is in no list; whoever was handed it can tell.
		sockets, err := diagInet(c.at, 1<<stateListen|1<<stateClose, false)
		if err != nil {
			return nil, err
		}
		known := map[uint64]bool{}
		inside := map[uint64]uint64{} // cookies of lanes of Multipath TCP by inode: what is listed is the socket inside, which has another cookie
		for _, ls := range cs.Lanes {
			if known[ls.Cookie] = true; ls.MPTCP {
				inside[ls.Inode] = ls.Cookie
			}
		}
		for _, d := range sockets {
			if d.local.Addr() != c.at.addr.Addr() {
				continue
			}
			if outside, found := inside[d.inode]; found {
				d.cookie = outside
			}
			if !known[d.cookie] {
				return nil, unix.EADDRINUSE
			}
			there[d.cookie] = true
		}
	}
	var out []LaneState
	for _, ls := range cs.Lanes {
		if there[ls.Cookie] || (c.intact && !c.at.onPath()) {
			out = append(out, ls)
		}
	}
	return out, nil
}
