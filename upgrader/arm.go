package upgrader

import (
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/tail"
)

// armed is a start of which only the fork is missing: without a child of ours
// it is certain, and quickly known, that nothing is left of a predecessor.
type armed struct {
	launchedAs
	order launch.Order
	lanes []*listener.Lane
	guest []dialect.Lane  // what its environment tells of
	lends []int           // numbers at which it gets the segment
	lent  []func()        // give back what the order was lent
	saved <-chan struct{} // closed when the state is written in which it can be found
	err   error
}

// armAhead does for g what can be done while its predecessor still serves, so
// that it does not count into the gap of an exclusive swap.
func (s *Service) armAhead(g *generation) {
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
	s.spawn(func() { giveBackAhead(ahead) })
}

// giveBackAhead gives back what was done ahead; nil: nothing was.
func giveBackAhead(ahead <-chan armed) {
	if ahead == nil {
		return
	}
	if a := <-ahead; a.err == nil {
		a.giveBack()
		a.release()
	}
}

// giveBack closes what the order does not need any more.
func (a *armed) giveBack() {
	for _, back := range a.lent {
		back()
	}
}

// launch makes a process of g from what was armed ahead, or from scratch. Its
// binds are taken over if takes says so, and p keeps it from the segment.
func (s *Service) launch(g *generation, ahead <-chan armed, takes bool, p *passage) (l launchedAs, err error) {
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
	a.passage = p
	if err := s.furnish(g, &a); err != nil {
		return l, err
	}
	shim, err := s.fork(g, a.order)
	if err != nil {
		return l, err
	}
	var calls launch.Filter
	if a.filter = takes || p != nil; a.filter {
		if p == nil {
			a.lends = nil
		}
		calls, a.learns = s.filter(shim.Pid(), takes, a.lends)
	}
	select {
	case <-a.saved:
	case <-s.run.Done():
	}
	if a.child, err = shim.Exec(calls); err != nil {
		s.reaper.Forget(shim.Pid())
		return l, err
	}
	a.main = s.identify(g.run, a.child.Pid)
	a.members = process.NewMembers(a.main, a.order.Cgroup, marks(g.mark, g.number)...)
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
	a.saved = s.saved() // if we are killed when it runs, it is found
	lanes, err := s.lanes(g)
	if err != nil {
		return err
	}
	order := &a.order
	*order = launch.Order{Dir: s.config.Dir, Umask: s.config.Umask, OwnGroup: !s.config.Terminal, DieWithParent: s.config.DieWithParent, Ignore: append([]syscall.Signal{}, s.config.Ignored...)}
	order.Cgroup = s.group(g)
	g.recipe.order(order)
	if u := s.config.User; u != nil {
		order.Uid, order.Gid, order.Groups = &u.Uid, &u.Gid, u.Groups
	}
	if a.notify, err = s.notifySocket(g); err != nil {
		return err
	}
	if a.acks, err = s.ackSocket(g); err != nil {
		return err
	}
	guest := make([]dialect.Lane, 0, len(lanes))
	numbers := s.config.numbers(len(lanes))
	for i, lane := range lanes {
		at := lane.Claim().Address()
		number, back, err := pass(order, lane, numbers[i])
		if err != nil {
			return fmt.Errorf("upgrader: pass %s: %w", at, err)
		}
		a.lent = append(a.lent, back)
		guest = append(guest, dialect.Lane{Claim: at.Name, Spec: at.Spec, Network: at.Network, Fd: number})
	}
	var pipes []*os.File
	a.flip, pipes, err = s.openFlip(order, guest)
	for _, f := range pipes {
		a.lent = append(a.lent, func() { _ = f.Close() }) // the server has its own
	}
	if err != nil {
		return err
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
	a.lanes, a.guest = lanes, guest
	return nil
}

// furnish adds what is known only when the predecessor is gone: what it
// parked, its memory, and the environment that tells of all.
func (s *Service) furnish(g *generation, a *armed) (err error) {
	if a.guest, err = s.passParked(a, a.guest); err != nil {
		return err
	}
	s.environment(g, &a.order, a.guest, a.launchedAs)
	if err := s.equip(g, a); err != nil {
		return err
	}
	return s.lend(g, a)
}
