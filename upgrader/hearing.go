package upgrader

import (
	"context"
	"time"

	"github.com/upgrader/upgrader/listener/notify"
)

// hearing is how a generation's notify socket is read.
type hearing struct {
	first int                // pid of the process that was started
	end   context.CancelFunc // nil: nobody reads it
	ended chan struct{}      // closed when nobody does any more
}

// hear reads what g says from now on. first is the process that was started.
func (s *Service) hear(g *generation, first int) {
	ctx, end := context.WithCancel(g.run)
	h := hearing{first: first, end: end, ended: make(chan struct{})}
	g.hearing = h
	s.spawn(func() {
		defer close(h.ended)
		_ = g.notify.Run(ctx, func(m notify.Message) { s.heard(g, first, m) })
	})
}

// hush begins the moment in which nothing moves: it has nobody read what the servers say: it waits in the kernel. It is for
// goroutines, and returns when what was read is done.
func (s *Service) hush() error {
	var all []hearing
	err := s.ask(s.run, func() {
		s.handing.still = time.Now()
		for _, g := range s.generations {
			if g.hearing.end != nil {
				all = append(all, g.hearing)
			}
		}
	})
	for _, h := range all {
		h.end()
		<-h.ended
	}
	return err
}

// hearAgain ends hush.
func (s *Service) hearAgain() {
	for _, g := range s.generations {
		select {
		case <-g.hearing.ended: // nil for one that has no socket
			s.hear(g, g.hearing.first)
		default:
		}
	}
}
