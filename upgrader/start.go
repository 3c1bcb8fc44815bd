package upgrader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

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
	flip    *flip        // nil: the server does not speak tableflip's dialect
	acks    *notify.Acks // nil: the server does not speak einhorn's dialect
	asking  io.Closer    // what Quit.Hold gave; nil: nothing
	filter  bool         // some of its calls are answered by us: its binds, those by which it reaches the segment
	passage *passage     // keeps it from the segment; nil: nothing does
	learns  bool         // without a look at its sockets, which is not permitted here
}

// begin starts g in a goroutine. The lanes of a dead generation that still
// hold clients become its own.
func (s *Service) begin(g *generation) {
	s.starting = g
	if s.state.ending() {
		return
	}
	if s.hold.refusing {
		err := s.set.Accept()
		if err != nil { // tried again with the next start
			s.note(g, "the claims cannot accept again", err)
		}
		s.hold.refusing = err != nil
	}
	if s.serving == nil && len(s.set.Claims()) > 0 {
		s.inherit(g)
	}
	if s.config.Strategy == Exclusive && !s.alone(g) {
		return // gone starts it: never beside another writer
	}
	s.start(g)
}

// alone reports whether no process of another generation than g is left, but
// those that have confirmed that they write no more.
func (s *Service) alone(g *generation) bool {
	for _, other := range s.generations {
		if other != g && !other.confirmed {
			return false
		}
	}
	return true
}

// start launches g, in a goroutine.
func (s *Service) start(g *generation) {
	g.begun, g.launching = true, time.Now()
	filter, errands, ahead := s.intercepts, s.errands(g), g.ahead
	g.ahead = nil
	var ports *ownPorts
	if s.sharesMemory() {
		ports = s.leftPorts()
	}
	s.spawn(func() {
		err := s.freePorts(g, ports)
		var p *passage
		if err == nil {
			p, err = s.runErrands(g, errands)
		}
		if err != nil {
			giveBackAhead(ahead)
			s.tell(func() { s.notLaunched(g, err) })
			return
		}
		l, err := s.launch(g, ahead, filter, p)
		p.launched()
		if errors.Is(err, launch.ErrFilter) && s.config.Intercept != InterceptOn {
			reason := err
			s.tell(func() { s.withoutFilter(g, reason) })
			if err = p.wait(); err == nil {
				l, err = s.launch(g, nil, false, nil)
			}
		}
		if err != nil {
			p.close()
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

// withoutFilter notes that no filter can be put on a server here.
func (s *Service) withoutFilter(g *generation, err error) {
	s.beside = err
	if s.intercepts {
		s.intercepts = false
		s.note(g, "the server's own bind cannot be taken over, so its port is not kept: see upgrader doctor", err)
	} else {
		s.note(g, "it starts when the snapshot of the segment is complete, not before: see upgrader doctor", err)
	}
}

// inherit lets clients queue for g from now on: nobody serves.
func (s *Service) inherit(g *generation) {
	if err := s.set.Prepare(g.number); err != nil {
		s.note(g, "lanes cannot be prepared", err)
		return
	}
	if err := s.set.Steer(g.number); err != nil && !noLane(err) {
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
	if l.acks != nil {
		_ = l.acks.Close()
	}
	if l.asking != nil {
		_ = l.asking.Close()
	}
	l.flip.close()
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

// environment is what the server finds around it.
func (s *Service) environment(g *generation, o *launch.Order, lanes []dialect.Lane, l launchedAs) {
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
	if l.notify != nil {
		set = append(set, "NOTIFY_SOCKET="+l.notify.Path())
		if s.store != nil {
			set = append(set, "FDSTORE="+strconv.Itoa(s.config.StoreMax))
		}
	}
	set = append(set, ackEnviron(l.acks)...)
	watched, pids := s.config.watchdogEnviron()
	set = append(set, watched...)
	o.PidVariables = append(o.PidVariables, pids...)
	o.Env = merge(dialect.Clear(g.recipe.env, s.config.Dialects), ours, set)
}

// notifySocket is where g says READY=1.
func (s *Service) notifySocket(g *generation) (*notify.Socket, error) {
	path := s.notifyPath(g)
	n, err := notify.Listen(path)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, nil // there is no such thing here, and nobody expects it
	}
	if err != nil || s.config.User == nil {
		return n, err
	}
	if err := os.Chown(path, int(s.config.User.Uid), int(s.config.User.Gid)); err != nil {
		_ = n.Close()
		return nil, fmt.Errorf("upgrader: give the notify socket to the server's user: %w", err)
	}
	return n, nil
}

func (s *Service) notifyPath(g *generation) string {
	return filepath.Join(s.config.StateDir, "notify."+strconv.Itoa(g.number))
}

func (s *Service) stderrPath(g *generation) string {
	return filepath.Join(s.config.StateDir, "stderr."+strconv.Itoa(g.number))
}

// launched is told when g runs its command.
func (s *Service) launched(g *generation, l launchedAs) {
	g.child, g.main, g.members, g.tail, g.notify, g.asking = l.child, l.main, l.members, l.tail, l.notify, l.asking
	s.proxies.lives.begin(g.number, g.main)
	s.observe(Event{What: EventStarting, Generation: g.number, Pid: g.pid(), Message: g.recipe.held.Name})
	s.spawn(func() {
		select {
		case <-l.child.Done():
		case <-s.left: // it is another upgrader's
			return
		}
		status, err := l.child.Wait()
		noticed := time.Now()
		s.reaper.Forget(l.child.Pid)
		_ = l.child.Close()
		s.tell(func() {
			if g.main != l.main {
				return // another process stands for it
			}
			g.lost = noticed
			if err == nil {
				g.status = &status
			}
			s.mainEnded(g)
		})
	})
	if l.notify != nil {
		s.hear(g, l.child.Pid)
	}
	if g.flip = l.flip; g.flip != nil {
		s.spawn(func() { s.hearFlip(g, l.child.Pid, l.flip) })
	}
	if l.acks != nil {
		s.spawn(func() { s.hearAcks(g, l.child.Pid, l.acks) })
	}
	if l.filter {
		g.calls, g.learns, g.passage = l.child.Notify, l.learns, l.passage
		s.answerBinds(g)
	}
	s.lookEarly(g)
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
		noticed := time.Now()
		status := statusOf(main.Pid)
		s.tell(func() {
			if g.main == main {
				g.status, g.lost = status, noticed
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

// daemonLooks bounds how often daemon looks again because those that it saw ended meanwhile.
const daemonLooks = 32

// daemon finds the process that stands for g after its first one exited with
// success: the one that the pid file names, else the oldest whose parent is no
// member, as long as a process of g holds one of its lanes or may still bind.
func (s *Service) daemon(g *generation) (process.Identity, bool) {
	for range daemonLooks {
		members, err := g.members.List()
		if err != nil {
			return process.Identity{}, false
		}
		if len(members) == 0 {
			if empty, err := g.members.Empty(); empty || err != nil {
				return process.Identity{}, false
			}
			continue
		}
		if main, ok := s.named(members); ok {
			return main, true
		}
		bound := !s.intercepts || len(g.listens) > 0 // else it may still bind
		if s.config.ForkingPidFile == "" && bound && !s.holdsLane(g) {
			return process.Identity{}, false
		}
		if main, ok := head(members); ok {
			return main, true
		}
		// A double fork: who was seen has ended, and whom it started is there for the next look.
	}
	return process.Identity{}, false
}

// named is the member that the pid file names.
func (s *Service) named(members []process.Identity) (process.Identity, bool) {
	path := s.config.ForkingPidFile
	if path == "" {
		return process.Identity{}, false
	}
	pid, err := readPid(path)
	if err != nil {
		return process.Identity{}, false
	}
	for _, m := range members {
		if m.Pid == pid {
			return m, true
		}
	}
	return process.Identity{}, false
}

// head is the oldest of the members whose parent is none of them.
func head(members []process.Identity) (oldest process.Identity, ok bool) {
	pids := make(map[int]bool, len(members))
	for _, m := range members {
		pids[m.Pid] = true
	}
	for _, m := range members {
		if parent, err := m.Parent(); err == nil && !pids[parent] && (!ok || m.Start < oldest.Start) {
			oldest, ok = m, true
		}
	}
	return oldest, ok
}

func (s *Service) holdsLane(g *generation) bool {
	for _, lane := range s.set.Lanes(g.number) {
		if held, err := g.members.Holding(lane.Inode()); held || err != nil {
			return true
		}
	}
	return false
}
