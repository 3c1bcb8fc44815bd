package upgrader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/intercept"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/ready"
)

// bindOnly is how long after a bind a server may take to call listen(2): some
// skip it when they find the socket listening already.
const bindOnly = 400 * time.Millisecond

// lastListen is how long after a listen(2) more addresses are waited for, when
// the predecessor had some that the successor has not claimed yet.
const lastListen = 500 * time.Millisecond

// answerBinds answers the binds of g until no process of it is left, or until
// they are paused: then they wait in the kernel.
func (s *Service) answerBinds(g *generation) {
	ctx, pause := context.WithCancel(g.run)
	done := make(chan struct{})
	g.pauseBinds = func() { pause(); <-done }
	s.spawn(func() {
		defer close(done)
		defer pause()
		s.takeOver(ctx, g, g.calls, g.learns)
	})
}

func (s *Service) takeOver(ctx context.Context, g *generation, calls *os.File, learns bool) {
	server := intercept.Server{
		Handler:      &binder{s: s, g: g},
		NoPidfdGetfd: learns,
		Reach:        g.passage.reach,
		Observe: func(e intercept.Event) {
			if e.Call == "seccomp" {
				s.tell(func() { g.sandbox = true })
				return
			}
			if e.Err != nil && e.Outcome != intercept.Gone && !errors.Is(e.Err, intercept.ErrPass) {
				s.tell(func() { s.note(g, e.Call+" of "+e.Addr.String()+": "+string(e.Outcome), e.Err) })
			}
		},
	}
	err := server.Serve(ctx, calls)
	if ctx.Err() != nil && g.run.Err() == nil { // paused
		return
	}
	_ = calls.Close() // no process with the filter is left to miss it
	s.tell(func() { g.calls, g.pauseBinds = nil, nil })
	if err != nil && g.run.Err() == nil {
		s.tell(func() { s.note(g, "its binds are no longer taken over", err) })
	}
}

// binder gives the processes of one generation their lanes.
type binder struct {
	s *Service
	g *generation
}

// Bind gives the lane that takes the place of the socket.
func (b *binder) Bind(r intercept.Request) (intercept.Injection, error) {
	sock, err := b.s.takesOver(r.Socket)
	if err != nil {
		return intercept.Injection{}, err
	}
	lane, err := b.s.set.Bind(b.g.number, sock)
	if err != nil {
		return intercept.Injection{}, err
	}
	file, err := lane.Dup()
	if err != nil {
		return intercept.Injection{}, err
	}
	b.s.tell(func() { b.s.bound(b.g, r.Tgid, lane) })
	return intercept.Injection{File: file}, nil
}

// Listen answers the listen(2) of a lane.
func (b *binder) Listen(r intercept.Request) error {
	for _, lane := range b.s.set.Lanes(b.g.number) {
		if lane.Inode() != r.Inode {
			continue
		}
		if err := b.s.set.Listen(lane); err != nil {
			return err
		}
		// It is answered when that is dealt with: a generation that is ready by this has not served anybody yet.
		_ = b.s.ask(b.g.run, func() { b.s.listened(b.g, lane) })
	}
	return nil
}

// Owns tells whether a socket is a lane of the generation.
func (b *binder) Owns(inode uint64) bool {
	return slices.ContainsFunc(b.s.set.Lanes(b.g.number), func(l *listener.Lane) bool { return l.Inode() == inode })
}

// bound is told of each bind that was taken over. One of UDP serves from then
// on; one of TCP is given time to listen.
func (s *Service) bound(g *generation, pid int, lane *listener.Lane) {
	if id, err := process.Of(pid); err == nil && !g.members.Has(pid) {
		g.members.Add(id) // the filter is this generation's alone
	}
	s.observe(Event{What: EventBound, Generation: g.number, Pid: pid, Message: lane.Claim().String()})
	s.save()
	if lane.Claim().Datagrams() {
		s.listened(g, lane)
		return
	}
	time.AfterFunc(bindOnly, func() {
		if !s.held(g.number, lane.Inode()) {
			return // it was closed again: a server that tries a port
		}
		s.tell(func() {
			if !g.listens[lane] && g.run.Err() == nil && s.set.Listen(lane) == nil {
				s.listened(g, lane)
			}
		})
	})
}

// listened is told of each address on which g began to listen.
func (s *Service) listened(g *generation, lane *listener.Lane) {
	g.listens[lane] = true
	if g == s.serving {
		if err := s.set.Steer(g.number); err != nil {
			s.note(g, "new connections cannot be steered", err)
		}
		return
	}
	k := s.config.Ready.Kind
	if g != s.starting || k != ready.Listen && (k != ready.Auto || s.notifies) {
		return
	}
	if s.covers(g) {
		s.becameReady(g)
		return
	}
	time.AfterFunc(lastListen, func() {
		s.tell(func() {
			if g == s.starting {
				s.becameReady(g)
			}
		})
	})
}

// covers reports whether g listens wherever somebody listened before it.
func (s *Service) covers(g *generation) bool {
	for _, c := range s.set.Claims() {
		if !slices.ContainsFunc(s.lanesOf(c, g), func(l *listener.Lane) bool { return g.listens[l] }) {
			return false
		}
	}
	return true
}

// withoutTakeover starts the successor of g, which failed because it wanted
// the one seccomp listener that the kernel allows, and that is ours. From now
// on the service's binds are its own, and nothing else of it is asked.
func (s *Service) withoutTakeover(g *generation) {
	why := errors.New("the server asks for a seccomp listener of its own")
	s.beside = why
	if s.intercepts {
		s.intercepts = false
		s.note(g, "", fmt.Errorf("%w: it is started again without takeover of its bind, so its port is not kept (use --listen with a dialect)", why))
	} else {
		s.note(g, "", fmt.Errorf("%w: it is started again without ours", why))
	}
	s.starting = nil
	recipe := g.recipe.use()
	s.kill(g, func() {
		n := s.newGeneration(recipe)
		recipe.release()
		if s.swap != nil && s.swap.to == g {
			s.swap.to = n
		}
		s.begin(n)
	})
}
