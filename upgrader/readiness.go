package upgrader

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/ready"
)

// aliveFor is how long a server must live that can show nothing else.
const aliveFor = time.Second

// awaitReady watches for what proves that g is ready. Its deadline is part of
// the start: a generation that is late has failed. The time in which we keep it
// from the segment is not its own.
func (s *Service) awaitReady(g *generation) {
	ctx, cancel := context.WithCancel(g.run)
	g.proven = cancel
	within := s.config.ReadyTimeout
	if !g.due.IsZero() {
		within = time.Until(g.due)
	}
	var late *time.Timer
	late = time.AfterFunc(within, func() {
		s.tell(func() {
			switch {
			case g != s.starting, !g.ready.IsZero():
			case g.passage.pending():
				g.passage.hasten()
				late.Reset(s.config.ReadyTimeout)
			default:
				s.late()
				s.startFailed(g, fmt.Errorf("generation %d was not ready within %v", g.number, s.config.ReadyTimeout))
			}
		})
	})
	context.AfterFunc(ctx, func() { late.Stop() })
	probe := s.probe(g)
	if probe == nil {
		return // READY=1 or listen(2) is told by whoever hears it
	}
	s.spawn(func() {
		err := probe(ctx)
		if ctx.Err() != nil {
			return
		}
		s.tell(func() {
			switch {
			case g != s.starting, !g.ready.IsZero():
			case err != nil:
				s.startFailed(g, fmt.Errorf("generation %d was not ready: %w", g.number, err))
			default:
				s.becameReady(g)
			}
		})
	})
}

// late notes that the swap under way fails because something took too long.
func (s *Service) late() {
	if s.swap != nil {
		s.swap.late = true
	}
}

// probe gives what has to be asked about g, nil when g itself will tell.
func (s *Service) probe(g *generation) func(context.Context) error {
	spec, notifies := s.config.Ready, s.notifies
	if g.recipe.served { // it is known, whatever others of the service do
		notifies = g.recipe.notifies
	}
	ports := s.leftPorts()
	switch spec.Kind {
	case ready.Notify, ready.Listen:
		return nil
	case ready.Accept:
		return func(ctx context.Context) error { return s.set.Probe(ctx, g.number) }
	case ready.Auto:
	default:
		o := s.probeOptions(g)
		return func(ctx context.Context) error {
			if err := ports.awaitFree(ctx); err != nil { // until then the predecessor would answer
				return err
			}
			return ready.Run(ctx, spec, o)
		}
	}
	switch {
	case notifies:
		return nil
	case s.streams(g) && s.set.Separate():
		return func(ctx context.Context) error { return s.set.Probe(ctx, g.number) }
	case s.proxies.plain(s.intercepts):
		return func(ctx context.Context) error { return s.probeBackends(ctx, g, ports) }
	case s.intercepts:
		return nil
	case ports != nil:
		return func(ctx context.Context) error { return ports.awaitTaken(ctx, g.members, 0) }
	default:
		return func(ctx context.Context) error {
			select {
			case <-time.After(aliveFor):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// probeOptions have checks reach g and not its predecessor at the same
// address, and commands run where the server does.
func (s *Service) probeOptions(g *generation) *ready.Options {
	o := &ready.Options{
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.set.Dial(ctx, g.number, network, address)
		},
		Dir: s.config.Dir, // they are waited for long before the reaper takes an interest
	}
	if g.recipe != nil {
		o.Env = append(slices.Clone(g.recipe.env), "MAINPID="+strconv.Itoa(g.pid()), "UPGRADER_GENERATION="+strconv.Itoa(g.number))
	}
	return o
}

// streams reports whether clients connect to a lane of g.
func (s *Service) streams(g *generation) bool {
	return slices.ContainsFunc(s.set.Lanes(g.number), func(l *listener.Lane) bool { return !l.Claim().Datagrams() })
}

// heard is told each message of a process that wrote to the notify socket of
// g, whose first process is known by its pid. It runs in the goroutine that reads it.
func (s *Service) heard(g *generation, first int, m notify.Message) {
	if m.Pid != first && !g.members.Has(m.Pid) { // the first process may have ended since
		_ = s.ask(g.run, func() {
			s.note(g, "", fmt.Errorf("a message on its notify socket came from pid %d, which is not of this generation: ignored", m.Pid))
		})
		return
	}
	s.park(g, m)
	_ = s.ask(g.run, func() { // a barrier behind it is answered when this is done
		if m.Status != "" {
			g.said = m.Status
			s.observe(Event{What: EventStatus, Generation: g.number, Pid: m.Pid, Message: m.Status})
		}
		if m.MainPID != 0 && m.MainPID != g.pid() {
			s.mainIs(g, m.MainPID)
		}
		s.alive(g, m)
		if m.Ready {
			s.saidReady(g)
		}
	})
}

// saidReady is told when g itself has said that it is ready.
func (s *Service) saidReady(g *generation) {
	g.notified = true
	if g.recipe != nil {
		g.recipe.notifies = true
	}
	if g == s.starting || g == s.serving {
		s.notifies = true // its successors will too
	}
	if k := s.config.Ready.Kind; k == ready.Auto || k == ready.Notify {
		s.becameReady(g)
	}
}

// mainIs makes the process that MAINPID= names the main one, if it is of g.
func (s *Service) mainIs(g *generation, pid int) {
	id, err := process.Of(pid)
	if err != nil || !g.members.Has(pid) {
		s.note(g, "", fmt.Errorf("MAINPID=%d is no process of this generation: ignored", pid))
		return
	}
	if g.child != nil && pid == g.child.Pid {
		g.main = id // its end is awaited already
		g.members.SetLeader(id)
		return
	}
	s.follow(g, id)
}

// releaseClaims gives up addresses that the server bound by itself and that g,
// which serves now, no longer binds: a lane that nobody accepts from would be
// a black hole.
func (s *Service) releaseClaims(g *generation) {
	for _, c := range s.set.Claims() {
		if c.Explicit() || slices.ContainsFunc(s.lanesOf(c, g), func(l *listener.Lane) bool { return g.listens[l] }) {
			continue
		}
		if err := s.set.Release(c); err != nil {
			s.note(g, "the server no longer binds "+c.String()+", which is still held", err)
			continue
		}
		s.note(g, "the server no longer binds "+c.String()+": it is given up", nil)
	}
}
