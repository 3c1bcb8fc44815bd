package listener

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// How long a lane that was closed is given to leave, with the lock held.
const (
	ghostLooks = 20
	ghostPause = 500 * time.Microsecond
)

// order is the bookkeeping of a SO_REUSEPORT group: which member has which index. It mirrors
// reuseport_add_sock and reuseport_detach_sock (net/core/sock_reuseport.c).

// removed is the order after the member at i has left: the last one fills the hole.
func removed(members []*Lane, i int) []*Lane {
	last := len(members) - 1
	members[i] = members[last]
	members[last] = nil
	return members[:last]
}

// mayLeave tells whether the member at i can leave without a connection going astray. When the last member moves into
// the hole while the program points at it, the program points past the end until it is attached again, and the
// kernel chooses among all that are left.
func mayLeave(members []*Lane, i int) bool {
	last := len(members) - 1
	if members[i].named() {
		return false
	}
	if i == last || !members[last].named() {
		return true
	}
	for j, l := range members {
		if j != i && !l.named() {
			return false
		}
	}
	return true
}

// named tells whether the program sends anything to l.
func (l *laneSystem) named() bool { return l.steered || l.shared }

// doubtful tells whether the program may be another than ours said: a share is to end, or somebody else has had the
// descriptor and may have attached his own.
func (l *Lane) doubtful() bool { return l.shared || l.handed || l.fd < 0 || l.gen == 0 }

// indices are where the steered members are. Without any, the first one holds the clients.
func indices(members []*Lane) []int {
	var out []int
	for i, l := range members {
		if l.steered {
			out = append(out, i)
		}
	}
	if out == nil && len(members) > 0 {
		out = []int{0}
	}
	return out
}

// joinLocked makes a bound lane listen, and with that the last member of its group.
func (s *system) joinLocked(l *Lane) error {
	c := l.claim
	if c.at.onPath() {
		return s.joinUnixLocked(l)
	}
	if c.at.network == "tcp" {
		s.reconcileLocked(c) // an index that is wrong now would stay wrong
		c.members = append(c.members, l)
		s.saveLocked()
		if err := listenOn(l.fd, c.address.Backlog); err != nil {
			c.members = c.members[:len(c.members)-1]
			return err
		}
	}
	l.state = laneMember
	if c.serving == nobody {
		c.serving = l.gen
	}
	if l.gen == c.serving && !l.retired {
		l.steered = true
	}
	if l.steered || len(c.members) == 1 {
		if err := s.attachLocked(c); err != nil {
			return err
		}
	}
	// Now that the last one is not steered to, one that is gone may leave: the new lane gets its low index, and once it is steered
	// to, all others may leave.
	s.sweepClaimLocked(c, time.Now())
	s.kickLocked()
	return nil
}

// attachLocked makes the kernel's program say what the bookkeeping says.
func (s *system) attachLocked(c *Claim) error {
	if c.at.onPath() || len(c.members) == 0 {
		return nil
	}
	for _, l := range c.members {
		if l.fd >= 0 && !l.mptcp {
			return attach(l.fd, c.programLocked())
		}
	}
	return nil // an orphan's group, and none of ours in it: its own program stays
}

// destroyLocked closes a lane whose making failed, or that never joined.
func (s *system) destroyLocked(l *Lane) {
	c := l.claim
	if i := slices.Index(c.members, l); i >= 0 {
		s.detachLocked(l)
		return
	}
	if l.fd >= 0 {
		unix.Close(l.fd)
	}
	s.forgetLocked(l)
}

// detachLocked takes a member out of its group and closes it. The caller has asked mayLeave.
func (s *system) detachLocked(l *Lane) {
	c := l.claim
	i := slices.Index(c.members, l)
	before := c.programLocked()
	switch c.at.network {
	case "tcp":
		// Leaves the group at once, even while a straggler has a duplicate.
		_ = unix.Shutdown(l.fd, unix.SHUT_RDWR) // fails only for one that has left by itself
	case "unixgram":
		s.lastWordsLocked(l)
	case "udp":
		if !s.closeUDPLocked(l) {
			return // somebody has a duplicate: it is a member until reconcileLocked misses it
		}
	}
	if l.fd >= 0 {
		unix.Close(l.fd)
	}
	c.members = removed(c.members, i)
	s.forgetLocked(l)
	s.reattachLocked(c, before)
}

// closeUDPLocked closes a lane of udp and tells whether it has left its group. A process that is between fork and exec has a
// duplicate of every descriptor: none may begin to be now, and one that has just begun drops its own in no time.
func (s *system) closeUDPLocked(l *Lane) bool {
	syscall.ForkLock.RLock()
	unix.Close(l.fd)
	syscall.ForkLock.RUnlock()
	l.fd = -1
	for range ghostLooks {
		if !s.existsLocked(l) {
			return true
		}
		time.Sleep(ghostPause)
	}
	l.retired, l.ghost = true, time.Now()
	return false
}

// reattachLocked attaches the program again if what it has to say has changed.
func (s *system) reattachLocked(c *Claim, before []bpf.Instruction) {
	if !slices.Equal(c.programLocked(), before) {
		if err := s.attachLocked(c); err != nil {
			s.note(Failed, c, c.serving, err)
		}
	}
}

// forgetLocked takes a closed lane off the books.
func (s *system) forgetLocked(l *Lane) {
	c := l.claim
	if l.name != "" {
		c.dir.remove(l.name)
	}
	l.fd, l.state, l.steered, l.shared = -1, laneGone, false, false
	c.all = slices.DeleteFunc(c.all, func(x *Lane) bool { return x == l })
	s.note(Closed, c, l.gen, nil)
}

// existsLocked asks the kernel whether a socket without a descriptor of ours is there.
// When that cannot be known, it is.
func (s *system) existsLocked(l *Lane) bool {
	found := false
	look := func(d diagSocket) { found = found || d.cookie == l.cookie }
	if l.claim.at.onPath() {
		return diagUnix(anyState, look) != nil || found
	}
	states := uint32(anyState)
	if l.claim.at.network == "tcp" {
		states = 1 << stateListen
	}
	sockets, err := diagInet(l.claim.at, states, false)
	for _, d := range sockets {
		look(d)
	}
	return err != nil || found
}

// reconcileLocked finds members that left by themselves: shut down by a guest, or an orphan's that died.
func (s *system) reconcileLocked(c *Claim) {
	if s.frozen {
		return
	}
	if c.at.onPath() {
		s.reconcileUnixLocked(c)
		return
	}
	changed := false
	var again []*Lane
	for i := 0; i < len(c.members); {
		l := c.members[i]
		switch {
		case l.fd >= 0 && (c.at.network == "udp" || listens(l.fd)),
			l.fd < 0 && s.existsLocked(l):
			i++
			continue
		}
		changed = true
		c.members = removed(c.members, i)
		switch {
		case l.fd < 0:
			s.forgetLocked(l)
		case !l.retired && (l.steered || l.gen > c.serving || l.gen == 0):
			again = append(again, l)
		default:
			l.state = laneOut // draining: its guest has done with it
		}
	}
	for _, l := range again { // the port is still bound: clients come back
		if err := listenOn(l.fd, c.address.Backlog); err != nil {
			l.state, l.steered = laneOut, false
			s.note(Failed, c, l.gen, fmt.Errorf("listener: listen again: %w", err))
			continue
		}
		c.members = append(c.members, l)
		s.note(Relistened, c, l.gen, nil)
	}
	if changed {
		s.saveLocked()
		if err := s.attachLocked(c); err != nil {
			s.note(Failed, c, c.serving, err)
		}
	}
}

func (s *system) steer(gen int) error {
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	found := false
	for _, c := range s.list {
		s.reconcileLocked(c)
		s.sweepClaimLocked(c, time.Now())
		var to []*Lane
		for _, l := range c.all {
			if l.gen == gen && (l.state == laneMember || l.state == laneShut) {
				to = append(to, l)
			}
		}
		if len(to) == 0 {
			continue
		}
		found = true
		if err := s.steerClaimLocked(c, gen, to); err != nil {
			return fmt.Errorf("listener: steer %s to generation %d: %w", c, gen, err)
		}
		s.note(Steered, c, gen, nil)
	}
	s.kickLocked()
	if !found {
		return ErrNoLane
	}
	return nil
}

func (s *system) steerClaimLocked(c *Claim, gen int, to []*Lane) error {
	from, serving := c.steeredLocked(), c.serving
	if serving == gen && slices.Equal(from, to) && !slices.ContainsFunc(c.members, (*Lane).doubtful) {
		return nil // as joinLocked left it
	}
	s.unshareLocked(c)
	mark := func(lanes []*Lane, on bool) {
		for _, l := range lanes {
			l.steered = on
		}
	}
	mark(from, false)
	mark(to, true)
	c.serving = gen
	s.saveLocked()
	err := s.attachLocked(c)
	if c.at.onPath() && !c.refused {
		err = c.dir.publish(to[0].name)
	}
	if err != nil {
		mark(to, false)
		mark(from, true)
		c.serving = serving
		return err
	}
	for _, l := range to { // steered back to: it is in use again
		l.expires = time.Time{}
	}
	return nil
}

func (s *system) refuse() error {
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	for _, c := range s.list {
		if c.refused || c.at.network == "udp" {
			continue
		}
		c.refused = true
		if c.at.onPath() {
			if err := s.refuseUnixLocked(c); err != nil {
				return fmt.Errorf("listener: refuse clients on %s: %w", c, err)
			}
			continue
		}
		s.reconcileLocked(c)
		for _, l := range c.members {
			if l.fd < 0 {
				continue
			}
			// With SO_REUSEADDR, any socket that has it too could take the port of one that does not listen.
			if err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
				return fmt.Errorf("listener: refuse clients on %s: %w", c, os.NewSyscallError("setsockopt", err))
			}
			_ = unix.Shutdown(l.fd, unix.SHUT_RDWR) // fails only for one that has stopped listening by itself
			l.state = laneShut
		}
		c.members = slices.DeleteFunc(c.members, func(l *Lane) bool { return l.state == laneShut })
	}
	s.kickLocked()
	return nil
}

func (s *system) accept() error {
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	for _, c := range s.list {
		if !c.refused {
			continue
		}
		if c.at.onPath() {
			if err := s.acceptUnixLocked(c); err != nil {
				return fmt.Errorf("listener: accept clients on %s: %w", c, err)
			}
			c.refused = false
			continue
		}
		s.reconcileLocked(c)
		// The steered ones first: nothing is to go to another in between.
		inOrder := append(c.steeredLocked(), slices.DeleteFunc(slices.Clone(c.all), func(l *Lane) bool { return l.steered })...)
		for _, l := range inOrder {
			if l.state != laneShut {
				continue
			}
			err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			if err == nil {
				err = listenOn(l.fd, c.address.Backlog)
			}
			if err != nil {
				return fmt.Errorf("listener: accept clients on %s: %w", c, err)
			}
			l.state = laneMember
			c.members = append(c.members, l)
			if err := s.attachLocked(c); err != nil {
				return fmt.Errorf("listener: accept clients on %s: %w", c, err)
			}
		}
		c.refused = false
	}
	s.kickLocked()
	return nil
}
