package listener

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// system is a Set on Linux. Everything below it is guarded by mu, which is held for short system calls only.
// A lane that the keeper may be waiting on is closed by the keeper alone (and by close, once the keeper is gone), so that it
// has left its group when close(2) returns. Lanes of tcp leave by shutdown(2), which does not care.
type system struct {
	cfg    Config
	boot   string          // see bootID
	ctx    context.Context // ends with close: relays and watchers
	cancel context.CancelFunc
	work   sync.WaitGroup // keeper, relays, watchers
	relays atomic.Int64   // clients that are being relayed

	mu     sync.Mutex
	closed bool
	frozen bool // another upgrader has the same sockets: see Set.Freeze
	list   []*Claim
	events []Event // to be told once mu is free
	wake   int     // eventfd of the keeper; -1 before the first claim
}

type laneState string

const (
	laneBound  laneState = "bound"  // waits for Listen (tcp)
	laneMember laneState = "member" // listens; of udp: is bound
	laneShut   laneState = "shut"   // refuses clients until Accept
	laneOut    laneState = "out"    // its own guest shut it down: out of the group
	laneGone   laneState = "gone"   // closed
)

// nobody is the serving generation of a claim that has never had a listening lane.
const nobody = -1

type claimSystem struct {
	set     *system
	at      endpoint
	dir     *directory // of a path
	all     []*Lane    // in the order in which they were made
	members []*Lane    // in the order of the kernel's group
	serving int        // whose lanes are steered to
	refused bool
	adopted bool             // and not claimed by the user of this set yet
	intact  bool             // adopted from one who handed everything over: the order is known
	owner   *uint32          // of a socket that somebody else made: ours must be the same user's to join it
	links   map[string]*link // clients of udp that are relayed
	route   *probeRoute      // a probe that is under way
	fold    *Lane            // takes all clients while others leave
	percent int              // of new connections that go to the lanes that are shared to
}

type laneSystem struct {
	set            *system
	gen            int
	fd             int // -1: an orphan's lane that could not be taken, or one that somebody else still holds
	cookie, inode  uint64
	state          laneState
	steered        bool
	shared         bool // gets a share of what comes, beside those that are steered to
	handed         bool // Lane or Bind gave it out
	retired        bool // its generation is gone
	hasty          bool // leaves as soon as it can
	beside         bool // joined beside an orphan: relays what strays into it until it is handed out
	deaf           bool // cannot be watched any more
	watched        bool // the keeper may be inside poll(2) with it
	expires, pause time.Time
	ghost          time.Time  // since when it has been closed, and there all the same
	mptcp          bool       // Multipath TCP, as somebody else made it: no program can be attached through it
	name           string     // own name in the directory, of a lane on a path
	left           *leftovers // of a lane of unixgram whose generation is gone; nil: nothing was relayed
	options        []Option
	blocking       bool
}

func newSystem(c Config) *system {
	s := &system{cfg: c, boot: bootID(), wake: -1}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *system) lock() { s.mu.Lock() }

// unlock tells the events once the lock is free.
func (s *system) unlock() {
	events := s.events
	s.events = nil
	s.mu.Unlock()
	for _, e := range events {
		s.cfg.Observe(e)
	}
}

func (s *system) note(kind EventKind, c *Claim, gen int, err error) {
	s.events = append(s.events, Event{Kind: kind, Claim: c, Generation: gen, Err: err})
}

func (c *claimSystem) network() string { return c.at.network }
func (c *claimSystem) dial() string    { return c.at.dial() }

func (l *laneSystem) generation() int {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	return l.gen
}

func (l *laneSystem) dup() (*os.File, error) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	if l.state == laneGone || l.fd < 0 {
		return nil, fmt.Errorf("listener: duplicate lane: %w", os.ErrClosed)
	}
	fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("listener: duplicate lane: %w", os.NewSyscallError("fcntl", err))
	}
	return os.NewFile(uintptr(fd), "lane"), nil
}

func (s *system) claim(ctx context.Context, a Address) (*Claim, error) {
	at, err := resolve(ctx, a)
	if err != nil {
		return nil, err
	}
	c, err := s.claimAt(at, a)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, inUse(at, err)
	}
	if port := at.addr.Port(); errors.Is(err, unix.EACCES) && port > 0 && port < 1024 {
		err = fmt.Errorf("%w (ports below 1024 are root's, or need CAP_NET_BIND_SERVICE)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("listener: claim %s: %w", a, err)
	}
	return c, nil
}

func (s *system) claimAt(at endpoint, a Address) (*Claim, error) {
	s.lock()
	defer s.unlock()
	if s.closed {
		return nil, ErrClosed
	}
	for _, c := range s.list {
		if c.at != at && (!c.adopted || a.Port != 0 || c.address.Spec != a.Spec) {
			continue
		}
		if !c.adopted {
			return nil, unix.EADDRINUSE
		}
		c.explicit, c.adopted = true, false
		a.Port = int(c.at.addr.Port())
		c.address = a
		return c, nil
	}
	c := &Claim{address: a, explicit: true, claimSystem: claimSystem{set: s, at: at, serving: nobody}}
	if err := s.openClaimLocked(c); err != nil {
		return nil, err
	}
	if _, err := s.listeningLaneLocked(c, 0, nil, true); err != nil {
		s.dropClaimLocked(c)
		return nil, err
	}
	return c, nil
}

// openClaimLocked makes c one of the set's claims.
func (s *system) openClaimLocked(c *Claim) error {
	if err := s.startLocked(); err != nil {
		return err
	}
	if c.at.onPath() {
		if err := s.openPathLocked(c); err != nil {
			return err
		}
	}
	s.list = append(s.list, c)
	return nil
}

// dropClaimLocked forgets a claim that has no lane any more.
func (s *system) dropClaimLocked(c *Claim) {
	s.list = slices.DeleteFunc(s.list, func(x *Claim) bool { return x == c })
	if c.dir != nil {
		c.dir.close()
	}
}

func (s *system) lane(c *Claim, gen int) (*Lane, error) {
	s.lock()
	defer s.unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if !slices.Contains(s.list, c) {
		return nil, fmt.Errorf("listener: lane on %s: the claim is given up", c)
	}
	if l := c.readyLaneLocked(gen); l != nil {
		l.handed = true
		return l, nil
	}
	l, err := s.listeningLaneLocked(c, gen, nil, true)
	if err != nil {
		return nil, fmt.Errorf("listener: lane on %s: %w", c, err)
	}
	l.handed = true
	return l, nil
}

// readyLaneLocked finds a lane that was made for gen, or for nobody yet, and not handed out.
func (c *claimSystem) readyLaneLocked(gen int) *Lane {
	for _, want := range [...]int{gen, 0} {
		for _, l := range c.all {
			if l.gen != want || l.handed || l.retired || l.fd < 0 || l.state == laneOut {
				continue
			}
			if l.gen == 0 {
				if l.beside {
					_ = unix.SetNonblock(l.fd, !l.blocking) // cannot fail on a socket
				}
				l.gen, l.beside = gen, false
				if c.serving == 0 {
					c.serving = gen
				}
			}
			return l
		}
	}
	return nil
}

func (s *system) listeningLaneLocked(c *Claim, gen int, options []Option, blocking bool) (*Lane, error) {
	l, err := s.newLaneLocked(c, gen, options, blocking, false)
	if err != nil {
		return nil, err
	}
	if err := s.joinLocked(l); err != nil {
		s.destroyLocked(l)
		return nil, err
	}
	return l, nil
}

// newLaneLocked makes a bound lane; beside others means that sockets of ours are on an address that overlaps.
func (s *system) newLaneLocked(c *Claim, gen int, options []Option, blocking, others bool) (*Lane, error) {
	l := &Lane{claim: c, laneSystem: laneSystem{set: s, gen: gen, fd: -1, state: laneBound, options: options, blocking: blocking}}
	if c.at.onPath() {
		if err := s.openUnixLocked(l); err != nil {
			return nil, err
		}
		c.all = append(c.all, l)
		return l, nil
	}
	fd, err := open(c.at, options)
	if err != nil {
		return nil, err
	}
	l.fd = fd
	if err = c.own(fd); err == nil {
		l.cookie, l.inode, err = identify(fd)
	}
	if err == nil && blocking {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(fd, false))
	}
	if err == nil {
		err = s.bindLocked(l, others)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	c.all = append(c.all, l)
	return l, nil
}

// bindLocked binds; a lane of udp joins its group by that.
func (s *system) bindLocked(l *Lane, others bool) error {
	c := l.claim
	udp := c.at.network == "udp"
	if udp {
		s.reconcileLocked(c)
		c.members = append(c.members, l)
		s.saveLocked()
	}
	var err error
	if first := len(c.all) == 0; first && !others {
		err = bindFirst(l.fd, c.at)
	} else {
		err = bindNext(l.fd, c.at)
	}
	if err == nil && c.at.addr.Port() == 0 {
		var port uint16
		if port, err = boundPort(l.fd); err == nil {
			c.at.addr = netip.AddrPortFrom(c.at.addr.Addr(), port)
			c.address.Port = int(port)
		}
	}
	if err != nil && udp {
		c.members = c.members[:len(c.members)-1]
	}
	return err
}

func (s *system) listen(l *Lane) error {
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	if l.claim.at.datagrams() {
		return fmt.Errorf("listener: listen on %s: %w", l.claim, unix.EOPNOTSUPP)
	}
	var err error
	switch l.state {
	case laneBound, laneOut:
		err = s.joinLocked(l)
	case laneMember:
		err = s.deepenLocked(l)
	case laneShut: // Accept will
	case laneGone:
		err = os.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("listener: listen on %s: %w", l.claim, err)
	}
	return nil
}

// deepenLocked listens again: a guest's listen(2) may have made the queue shorter.
func (s *system) deepenLocked(l *Lane) error {
	if l.fd < 0 || l.claim.at.datagrams() {
		return nil
	}
	if l.claim.at.network == "tcp" && !listens(l.fd) {
		s.reconcileLocked(l.claim) // a guest has shut it down: listening would move it in the group
		return nil
	}
	return listenOn(l.fd, l.claim.address.Backlog)
}

func (s *system) relisten(gen int) error {
	s.lock()
	defer s.unlock()
	var errs []error
	for _, l := range s.lanesLocked(gen) {
		if l.state == laneMember {
			if err := s.deepenLocked(l); err != nil {
				errs = append(errs, fmt.Errorf("listener: listen again on %s: %w", l.claim, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *system) prepare(gen int) error {
	s.lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	for _, c := range s.list {
		models := c.steeredLocked()
		if len(models) == 0 || slices.ContainsFunc(c.all, func(l *Lane) bool { return l.gen == gen }) {
			continue
		}
		if c.readyLaneLocked(gen) != nil {
			continue // the first lane of the claim, that nobody was given: there is no model but itself
		}
		for _, model := range models {
			if _, err := s.listeningLaneLocked(c, gen, model.options, model.blocking); err != nil {
				return fmt.Errorf("listener: prepare a lane on %s: %w", c, err)
			}
		}
	}
	return nil
}

// steeredLocked are the lanes that are steered to, refused ones included, in the order they were made.
func (c *claimSystem) steeredLocked() []*Lane {
	var out []*Lane
	for _, l := range c.all {
		if l.steered {
			out = append(out, l)
		}
	}
	return out
}

func (s *system) lanesLocked(gen int) []*Lane {
	var out []*Lane
	for _, c := range s.list {
		for _, l := range c.all {
			if l.gen == gen {
				out = append(out, l)
			}
		}
	}
	return out
}

func (s *system) lanes(gen int) []*Lane {
	s.lock()
	defer s.unlock()
	return s.lanesLocked(gen)
}

func (s *system) claims() []*Claim {
	s.lock()
	defer s.unlock()
	return slices.Clone(s.list)
}

func (s *system) retire(gen int)  { s.leave(gen, false) }
func (s *system) abandon(gen int) { s.leave(gen, true) }

func (s *system) leave(gen int, hasty bool) {
	s.lock()
	defer s.unlock()
	if s.closed {
		return
	}
	for _, l := range s.lanesLocked(gen) {
		l.retired = true
		l.hasty = hasty && !l.steered
		if l.fd >= 0 { // ours alone from now on: accepting must never block
			_ = unix.SetNonblock(l.fd, true) // cannot fail on a socket
		}
	}
	s.kickLocked()
}

func (s *system) release(c *Claim) error {
	s.lock()
	defer s.unlock()
	if c.explicit {
		return fmt.Errorf("listener: release %s: it was claimed by the user", c)
	}
	for _, l := range c.all {
		if !l.retired {
			return fmt.Errorf("listener: release %s: generation %d has a lane on it", c, l.gen)
		}
	}
	for _, l := range c.all {
		l.steered, l.hasty = false, true
	}
	c.serving = nobody
	s.kickLocked()
	return nil
}
