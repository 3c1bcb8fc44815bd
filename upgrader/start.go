package upgrader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/tail"
)

// launchedAs is what a start brought.
type launchedAs struct {
	child   *launch.Child
	main    process.Identity
	members *process.Members
	tail    *tail.Tail
	notify  *notify.Socket
	filter  bool // its binds are taken over
	learns  bool // without a look at its sockets, which is not permitted here
}

// begin starts g in a goroutine. The lanes of a dead generation that still
// hold clients become its own.
func (s *Service) begin(g *generation) {
	s.starting = g
	if s.state.ending() {
		return
	}
	if s.hold.refusing {
		if err := s.set.Accept(); err != nil {
			s.note(g, "the claims cannot accept again", err)
		}
		s.hold.refusing = false
	}
	if s.serving == nil && len(s.set.Claims()) > 0 {
		s.inherit(g)
	}
	if s.config.Strategy == Exclusive && !s.alone(g) {
		return // gone starts it: never beside another writer
	}
	s.start(g)
}

// alone reports whether no process of another generation than g is left.
func (s *Service) alone(g *generation) bool {
	for _, other := range s.generations {
		if other != g {
			return false
		}
	}
	return true
}

// start launches g, in a goroutine.
func (s *Service) start(g *generation) {
	g.begun = true
	filter, errands, ahead := s.intercepts, s.errands(g), g.ahead
	g.ahead = nil
	s.spawn(func() {
		if err := s.runErrands(g, errands); err != nil {
			s.tell(func() { s.notLaunched(g, err) })
			return
		}
		l, err := s.launch(g, ahead, filter)
		if errors.Is(err, launch.ErrFilter) && s.config.Intercept != InterceptOn {
			reason := err
			s.tell(func() {
				s.intercepts = false
				s.note(g, "the server's own bind cannot be taken over, so its port is not kept: see upgrader doctor", reason)
			})
			l, err = s.launch(g, nil, false)
		}
		if err != nil {
			s.neverRan(g)
		}
		s.tell(func() {
			if err != nil {
				s.notLaunched(g, err)
				return
			}
			s.launched(g, l)
		})
	})
}

// inherit lets clients queue for g from now on: nobody serves.
func (s *Service) inherit(g *generation) {
	if err := s.set.Prepare(g.number); err != nil {
		s.note(g, "lanes cannot be prepared", err)
		return
	}
	if err := s.set.Steer(g.number); err != nil && !errors.Is(err, listener.ErrNoLane) {
		s.note(g, "clients cannot be sent to the prepared lanes", err)
	}
}

// notLaunched is told when no process of g ever ran its command.
func (s *Service) notLaunched(g *generation, err error) {
	g.begun, g.phase = true, phaseDying
	s.exited(g)
	if g == s.starting {
		s.startFailed(g, err)
	}
	s.gone(g)
}

// armed is a start of which only the fork is missing: without a child of ours
// it is certain, and quickly known, that nothing is left of a predecessor.
type armed struct {
	launchedAs
	order launch.Order
	guest []dialect.Lane // what its environment tells of
	files []*os.File     // lent to the order
	err   error
}

// armAhead does for g what can be done while its predecessor still serves, so
// that it does not count into the gap of an exclusive swap.
func (s *Service) armAhead(g *generation) {
	if s.memory != nil { // what it is told of the memory is known when the predecessor is gone
		return
	}
	ahead := make(chan armed, 1)
	g.ahead = ahead
	s.spawn(func() { ahead <- s.arm(g) })
}

// disarm gives back what was done ahead for a g that is not started.
func (s *Service) disarm(g *generation) {
	ahead := g.ahead
	if ahead == nil {
		return
	}
	g.ahead = nil
	s.spawn(func() {
		if a := <-ahead; a.err == nil {
			a.giveBack()
			a.release()
		}
	})
}

// giveBack closes what the order does not need any more.
func (a *armed) giveBack() {
	for _, f := range a.files {
		_ = f.Close() // a duplicate
	}
}

// launch makes a process of g from what was armed ahead, or from scratch.
func (s *Service) launch(g *generation, ahead <-chan armed, filter bool) (l launchedAs, err error) {
	var a armed
	if ahead != nil {
		a = <-ahead
	}
	if ahead == nil || a.err != nil {
		a = s.arm(g)
	}
	if a.err != nil {
		return l, a.err
	}
	defer func() {
		a.giveBack()
		if err != nil {
			a.release()
		}
	}()
	if err := s.furnish(g, &a); err != nil {
		return l, err
	}
	shim, err := s.fork(g, a.order)
	if err != nil {
		return l, err
	}
	var takeover launch.Filter
	if a.filter = filter; filter {
		takeover, a.learns = bindFilter(shim.Pid())
	}
	if a.child, err = shim.Exec(takeover); err != nil {
		s.reaper.Forget(shim.Pid())
		return l, err
	}
	a.main = s.identify(g.run, a.child.Pid)
	a.members = process.NewMembers(a.main, "", marks(s.mark, g.number)...)
	return a.launchedAs, nil
}

// arm makes the lanes, the environment and all else that a process of g gets.
func (s *Service) arm(g *generation) (a armed) {
	if a.err = s.tryArm(g, &a); a.err != nil {
		a.giveBack()
		a.release()
	}
	return a
}

func (s *Service) tryArm(g *generation, a *armed) (err error) {
	saved := s.saved() // if we are killed from now on, it is found
	lanes, err := s.lanes(g)
	if err != nil {
		return err
	}
	order := &a.order
	*order = launch.Order{Dir: s.config.Dir, Umask: s.config.Umask, OwnGroup: !s.config.Terminal, DieWithParent: s.config.DieWithParent, Ignore: append([]syscall.Signal{}, s.config.Ignored...)}
	g.recipe.order(order)
	if u := s.config.User; u != nil {
		order.Uid, order.Gid, order.Groups = &u.Uid, &u.Gid, u.Groups
	}
	if a.notify, err = s.notifySocket(g); err != nil {
		return err
	}
	guest := make([]dialect.Lane, 0, len(lanes))
	numbers := s.config.numbers(len(lanes))
	for i, lane := range lanes {
		f, err := lane.Dup()
		if err != nil {
			return fmt.Errorf("upgrader: pass %s: %w", lane.Claim().Address(), err)
		}
		a.files = append(a.files, f)
		order.Files = append(order.Files, launch.Passed{File: f, Number: numbers[i]})
		at := lane.Claim().Address()
		guest = append(guest, dialect.Lane{Claim: at.Name, Spec: at.Spec, Network: at.Network, Fd: numbers[i]})
	}
	stderr := s.config.Stderrs
	if s.config.Stderr != StderrInherit {
		if a.tail, err = tail.New(s.stderrPath(g), s.config.Stderrs); err != nil {
			return err
		}
		stderr = a.tail.File()
	}
	for n, f := range []*os.File{s.config.Stdin, s.config.Stdout, stderr} {
		if !slices.Contains(numbers, n) {
			order.Files = append(order.Files, launch.Passed{File: f, Number: n})
		}
	}
	a.guest = guest
	select {
	case <-saved:
	case <-s.run.Done():
	}
	return nil
}

// furnish adds what is known only when the predecessor is gone: what it
// parked, its memory, and the environment that tells of all.
func (s *Service) furnish(g *generation, a *armed) (err error) {
	if a.guest, err = s.handOver(a, a.guest); err != nil {
		return err
	}
	s.environment(g, &a.order, a.guest, a.notify)
	return s.lend(g, &a.order)
}

// identify identifies a child of ours, which runs or is its own zombie until
// it is waited for. One that ended at once has no start time.
func (s *Service) identify(ctx context.Context, pid int) process.Identity {
	for {
		id, err := process.Of(pid)
		switch {
		case err == nil:
			return id
		case errors.Is(err, process.ErrGone), ctx.Err() != nil:
			return process.Identity{Pid: pid}
		}
		pause(ctx) // no descriptor is left to look with
	}
}

// pause waits a moment before something is tried again, less if ctx ends.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
}

// release undoes a launch that failed.
func (l *launchedAs) release() {
	if l.tail != nil {
		_ = l.tail.Close()
	}
	if l.notify != nil {
		_ = l.notify.Close()
	}
}

// fork makes a shim that the reaper knows as ours.
func (s *Service) fork(g *generation, o launch.Order) (shim *launch.Shim, err error) {
	_, err = s.reaper.Start(func() (int, error) {
		if shim, err = launch.New(g.run, o); err != nil {
			return 0, err
		}
		return shim.Pid(), nil
	})
	return shim, err
}

// lanes are what g gets of each claimed address: those that were prepared for
// it, or new ones.
func (s *Service) lanes(g *generation) ([]*listener.Lane, error) {
	var all []*listener.Lane
	for _, c := range s.claims {
		mine := s.lanesOf(c, g)
		if len(mine) == 0 {
			lane, err := s.set.Lane(c, g.number)
			if err != nil {
				return nil, err
			}
			mine = append(mine, lane)
		}
		all = append(all, mine[0])
	}
	return all, nil
}

// numbers are the descriptor numbers of n addresses: those that were asked
// for, and else the lowest free ones from the first on.
func (c *Config) numbers(n int) []int {
	taken := map[int]bool{}
	for _, fd := range c.Numbers {
		taken[fd] = true
	}
	out := make([]int, n)
	next := dialect.FirstFd
	for i := range out {
		if fd, given := c.Numbers[i]; given {
			out[i] = fd
			continue
		}
		for taken[next] {
			next++
		}
		out[i] = next
		next++
	}
	return out
}

// lanesOf are the lanes of g on one claim.
func (s *Service) lanesOf(c *listener.Claim, g *generation) []*listener.Lane {
	return slices.DeleteFunc(s.set.Lanes(g.number), func(l *listener.Lane) bool { return l.Claim() != c })
}

// environment is what the server finds around it.
func (s *Service) environment(g *generation, o *launch.Order, lanes []dialect.Lane, n *notify.Socket) {
	var set []string
	for _, d := range s.config.Dialects {
		for _, v := range d.Environ(lanes, g.number) {
			switch {
			case v.Pid:
				o.PidVariables = append(o.PidVariables, v.Key)
			case v.Pidfd:
				o.PidfdVariables = append(o.PidfdVariables, v.Key)
			default:
				set = append(set, v.Key+"="+v.Value)
			}
		}
	}
	predecessor := ""
	if g.predecessor != 0 {
		predecessor = strconv.Itoa(g.predecessor)
	}
	set = append(set,
		"UPGRADER_GENERATION="+strconv.Itoa(g.number),
		"UPGRADER_PREDECESSOR="+predecessor,
		"UPGRADER_STRATEGY="+string(s.config.Strategy),
		"UPGRADER_MARK="+s.mark)
	if n != nil {
		set = append(set, "NOTIFY_SOCKET="+n.Path())
		if s.store != nil {
			set = append(set, "FDSTORE="+strconv.Itoa(s.config.StoreMax))
		}
	}
	o.Env = merge(dialect.Clear(g.recipe.env, s.config.Dialects), ours, set)
}

// notifySocket is where g says READY=1.
func (s *Service) notifySocket(g *generation) (*notify.Socket, error) {
	path := filepath.Join(s.config.StateDir, "notify."+strconv.Itoa(g.number))
	n, err := notify.Listen(path)
	if err != nil || s.config.User == nil {
		return n, err
	}
	if err := os.Chown(path, int(s.config.User.Uid), int(s.config.User.Gid)); err != nil {
		_ = n.Close()
		return nil, fmt.Errorf("upgrader: give the notify socket to the server's user: %w", err)
	}
	return n, nil
}

func (s *Service) stderrPath(g *generation) string {
	return filepath.Join(s.config.StateDir, "stderr."+strconv.Itoa(g.number))
}

// launched is told when g runs its command.
func (s *Service) launched(g *generation, l launchedAs) {
	g.child, g.main, g.members, g.tail, g.notify = l.child, l.main, l.members, l.tail, l.notify
	s.proxies.lives.begin(g.number, g.main)
	s.observe(Event{What: EventStarting, Generation: g.number, Pid: g.pid(), Message: g.recipe.held.Name})
	s.spawn(func() {
		status, err := l.child.Wait()
		s.reaper.Forget(l.child.Pid)
		_ = l.child.Close()
		s.tell(func() {
			if g.main != l.main {
				return // another process stands for it
			}
			if err == nil {
				g.status = &status
			}
			s.mainEnded(g)
		})
	})
	s.spawn(func() { _ = l.notify.Run(g.run, func(m notify.Message) { s.heard(g, l.child.Pid, m) }) })
	if l.filter {
		s.spawn(func() { s.takeOver(g, l) })
	}
	s.save()
	s.writeStatusFile()
	if g.phase == phaseDying || s.state.ending() {
		s.kill(g, nil)
		return
	}
	s.awaitReady(g)
}

// followed reports whether the main process of g left another one behind that
// is the server: it daemonised. That one is followed from now on.
func (s *Service) followed(g *generation) bool {
	if g.status == nil || !g.status.Success() || g.phase == phaseDying || s.state.ending() {
		return false
	}
	main, ok := s.daemon(g)
	if !ok {
		return false
	}
	s.note(g, fmt.Sprintf("the server left its first process: pid %d is followed", main.Pid), nil)
	s.follow(g, main)
	return true
}

// follow makes main, which is no child that we started, the main process of g.
func (s *Service) follow(g *generation, main process.Identity) {
	g.main, g.status, g.follows, g.exe = main, nil, true, process.Exe{}
	g.members.SetLeader(main)
	s.proxies.lives.begin(g.number, main)
	s.save()
	s.writeStatusFile()
	s.watch(g, main)
}

// watch tells when main has ended, if it still stands for g then. How it ended
// is known if it is an orphan that landed with us.
func (s *Service) watch(g *generation, main process.Identity) {
	_, _ = s.reaper.Start(func() (int, error) { return main.Pid, nil }) // its status is left to us
	s.spawn(func() {
		defer s.reaper.Forget(main.Pid)
		for main.Wait(s.run) != nil {
			if s.run.Err() != nil {
				return
			}
			pause(s.run)
		}
		status := statusOf(main.Pid)
		s.tell(func() {
			if g.main == main {
				g.status = status
				s.mainEnded(g)
			}
		})
	})
}

// findOrphans makes members of g of those processes that have one of its lanes
// and landed with us: a daemon that cleared its environment and left its
// session is known by nothing else.
func (s *Service) findOrphans(g *generation) {
	lanes := map[uint64]bool{}
	for _, l := range s.set.Lanes(g.number) {
		lanes[l.Inode()] = true
	}
	if len(lanes) == 0 || g.members == nil {
		return
	}
	children, err := process.Children()
	if err != nil {
		return // it is asked about those that are known
	}
	for _, child := range children {
		if s.ofOthers(g, child) {
			continue
		}
		sockets, _ := child.Sockets() // what could be read of it
		for inode := range sockets {
			if lanes[inode] {
				g.members.Add(child)
				break
			}
		}
	}
}

// ofOthers reports whether id is the main process of another generation.
func (s *Service) ofOthers(g *generation, id process.Identity) bool {
	for _, other := range s.generations {
		if other != g && (other.main == id || other.child != nil && other.child.Pid == id.Pid) {
			return true
		}
	}
	return false
}

// daemon finds the process that stands for g after its first one exited with
// success: the one that the pid file names, else the oldest whose parent is no
// member, as long as a process of g holds one of its lanes or may still bind.
func (s *Service) daemon(g *generation) (process.Identity, bool) {
	members, err := g.members.List()
	if err != nil || len(members) == 0 {
		return process.Identity{}, false
	}
	if path := s.config.ForkingPidFile; path != "" {
		if pid, err := readPid(path); err == nil {
			for _, m := range members {
				if m.Pid == pid {
					return m, true
				}
			}
		}
	}
	bound := !s.intercepts || len(g.listens) > 0 // else it may still bind
	if s.config.ForkingPidFile == "" && bound && !s.holdsLane(g) {
		return process.Identity{}, false
	}
	pids := make(map[int]bool, len(members))
	for _, m := range members {
		pids[m.Pid] = true
	}
	var oldest process.Identity
	for _, m := range members {
		if parent, err := m.Parent(); err == nil && !pids[parent] && (oldest.Pid == 0 || m.Start < oldest.Start) {
			oldest = m
		}
	}
	return oldest, oldest.Pid != 0
}

func (s *Service) holdsLane(g *generation) bool {
	for _, lane := range s.set.Lanes(g.number) {
		if held, err := g.members.Holding(lane.Inode()); held || err != nil {
			return true
		}
	}
	return false
}
