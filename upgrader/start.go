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
	filter, errands := s.intercepts, s.errands(g)
	s.spawn(func() {
		if err := s.runErrands(g, errands); err != nil {
			s.tell(func() { s.notLaunched(g, err) })
			return
		}
		l, err := s.launch(g, filter)
		if errors.Is(err, launch.ErrFilter) && s.config.Intercept != InterceptOn {
			reason := err
			s.tell(func() {
				s.intercepts = false
				s.note(g, "the server's own bind cannot be taken over, so its port is not kept: see upgrader doctor", reason)
			})
			l, err = s.launch(g, false)
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
	g.phase = phaseDying
	close(g.exited)
	if g == s.starting {
		s.startFailed(g, err)
	}
	s.gone(g)
}

// launch makes the lanes, the environment and the process of g.
func (s *Service) launch(g *generation, filter bool) (l launchedAs, err error) {
	shim, err := s.shim(g.run)
	if err != nil {
		return l, err
	}
	defer shim.Discard()
	lanes, err := s.lanes(g)
	if err != nil {
		return l, err
	}
	order := launch.Order{Dir: s.config.Dir, Umask: s.config.Umask, OwnGroup: !s.config.Terminal, DieWithParent: s.config.DieWithParent, Ignore: append([]syscall.Signal{}, s.config.Ignored...)}
	g.recipe.order(&order)
	if u := s.config.User; u != nil {
		order.Uid, order.Gid, order.Groups = &u.Uid, &u.Gid, u.Groups
	}
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	if l.notify, err = s.notifySocket(g); err != nil {
		return l, err
	}
	guest := make([]dialect.Lane, 0, len(lanes))
	for _, lane := range lanes {
		f, err := lane.Dup()
		if err != nil {
			return l, fmt.Errorf("upgrader: pass %s: %w", lane.Claim().Address(), err)
		}
		defer f.Close()
		fd := dialect.FirstFd + len(guest)
		order.Files = append(order.Files, launch.Passed{File: f, Number: fd})
		a := lane.Claim().Address()
		guest = append(guest, dialect.Lane{Claim: a.Name, Spec: a.Spec, Network: a.Network, Fd: fd})
	}
	order.Files = append(order.Files, launch.Passed{File: s.config.Stdin, Number: 0}, launch.Passed{File: s.config.Stdout, Number: 1})
	if s.config.Stderr == StderrInherit {
		order.Files = append(order.Files, launch.Passed{File: s.config.Stderrs, Number: 2})
	} else {
		if l.tail, err = tail.New(s.stderrPath(g), s.config.Stderrs); err != nil {
			return l, err
		}
		order.Files = append(order.Files, launch.Passed{File: l.tail.File(), Number: 2})
	}
	s.environment(g, &order, guest, l.notify)
	if err := s.lend(g, &order); err != nil {
		return l, err
	}
	if filter {
		order.Filter, order.FilterFlags, l.learns = bindFilter(shim.Pid())
	}
	if l.child, err = shim.Exec(order); err != nil {
		s.reaper.Forget(shim.Pid())
		return l, err
	}
	l.filter = filter
	if l.main, err = process.Of(l.child.Pid); errors.Is(err, process.ErrGone) {
		l.main, err = process.Identity{Pid: l.child.Pid}, nil // it ended at once: Wait tells how
	}
	if err != nil {
		return l, err
	}
	l.members = process.NewMembers(l.main, "", marks(s.mark, g.number)...)
	return l, nil
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

// shim gives the one that was forked ahead, or forks one.
func (s *Service) shim(ctx context.Context) (*launch.Shim, error) {
	select {
	case shim := <-s.spare:
		if shim != nil {
			return shim, nil
		}
	default:
	}
	return s.fork(ctx)
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
	s.observe(Event{What: EventStarting, Generation: g.number, Pid: g.pid(), Message: g.recipe.held.Name})
	s.spawn(func() {
		status, err := l.child.Wait()
		s.reaper.Forget(l.child.Pid)
		_ = l.child.Close()
		s.tell(func() {
			if err == nil {
				g.status = &status
			}
			s.mainEnded(g)
		})
	})
	s.spawn(func() { _ = l.notify.Run(g.run, func(m notify.Message) { s.heard(g, m) }) })
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
	ended := g.follows || g.status != nil && g.status.Success()
	if !ended || g.phase == phaseDying || s.state.ending() {
		return false
	}
	main, ok := s.daemon(g)
	if !ok {
		return false
	}
	g.main, g.status, g.follows = main, nil, true
	g.members.SetLeader(main)
	s.note(g, fmt.Sprintf("the server left its first process: pid %d is followed", main.Pid), nil)
	s.save()
	s.writeStatusFile()
	s.spawn(func() {
		if main.Wait(s.run) == nil {
			s.tell(func() { s.mainEnded(g) })
		}
	})
	return true
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
	if s.config.ForkingPidFile == "" && !s.intercepts && !s.holdsLane(g) {
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
