package upgrader

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/listener/intercept"
	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/control"
)

// passage keeps a generation that was started from the segment until its
// snapshot is complete: the calls by which it would reach the segment wait
// (intercept.Reach), and it has no lease.
type passage struct {
	due     chan struct{} // closed by begin: the second phase is to begin
	hurry   chan struct{} // closed by hasten: somebody waits, and all processors are to do it
	begin   func()
	hasten  func()
	settled chan struct{} // closed when err stands

	mu   sync.Mutex
	shut bool  // nobody is let through any more
	err  error // why nobody is; nil: all are
}

var errShut = errors.New("the generation is gone")

func newPassage() *passage {
	p := &passage{due: make(chan struct{}), hurry: make(chan struct{}), settled: make(chan struct{})}
	p.begin = sync.OnceFunc(func() { close(p.due) })
	p.hasten = sync.OnceFunc(func() { close(p.hurry) })
	return p
}

// headStart is how long a generation that was executed has the processors to
// itself, if it does not reach for the segment: reading a large one beside it
// would make its start longer.
const headStart = 50 * time.Millisecond

// gentle is how long one that is ready lets it be read at the lowest priority.
const gentle = time.Second

// launched says that the generation runs, or will not.
func (p *passage) launched() {
	if p != nil {
		time.AfterFunc(headStart, p.begin)
	}
}

// wait returns when the generation may reach the segment, or never will: then
// with why. A nil passage is open.
func (p *passage) wait() error {
	if p == nil {
		return nil
	}
	p.hasten()
	<-p.settled
	return p.err
}

// reach is wait for the calls of a guest.
func (p *passage) reach() error {
	if p.wait() != nil {
		return syscall.ENOSYS // as if nobody were there to answer
	}
	return nil
}

// closed reports whether the generation may not reach the segment, so far.
func (p *passage) closed() bool { return p != nil && (p.pending() || p.err != nil) }

// pending reports whether it is still to be decided.
func (p *passage) pending() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.settled:
		return false
	default:
		return true
	}
}

// settle opens the passage if grant succeeds, unless failed says why not, or
// it is shut. It returns why it is not open.
func (p *passage) settle(failed error, grant func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case failed != nil:
		p.err = failed
	case p.shut:
		p.err = errShut
	default:
		p.err = grant()
	}
	close(p.settled)
	return p.err
}

// close lets nobody through any more, and returns when it is known whether
// somebody was.
func (p *passage) close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.shut = true
	p.mu.Unlock()
	_ = p.wait() // it says that it is shut
}

// besides says whether a successor can be started while the second phase of
// the snapshot runs, by an error that says why not. A filter has its price
// where it is there for nothing else and takes no_new_privs.
func (s *Service) besides() error {
	switch {
	case s.beside != nil:
		return s.beside
	case s.config.Intercept == InterceptOff:
		return errors.New("--intercept is off")
	case s.memory != nil && s.memory.Validate != "":
		return errors.New("--validate is asked before the successor starts")
	case s.intercepts:
		return nil
	}
	return intercept.Free()
}

// secondPhase says when the second phase of a swap's snapshot runs, beside the
// successor's start or before it, and in that case why.
func (s *Service) secondPhase() (when, why string) {
	if err := s.besides(); err != nil {
		return control.BeforeStart, err.Error()
	}
	return control.BesideStart, ""
}

// onlyCopy reports whether nothing has to be done with the segment, before a
// generation starts, but its snapshot.
func (e *errands) onlyCopy(m *memory) bool {
	if e.undo != nil || e.restore != nil || e.besides != nil {
		return false
	}
	now, err := m.segment.State()
	if err != nil || now.Restoring || now.State == shmbridge.Unsaved && m.OnUnsaved != UnsavedKeep {
		return false
	}
	return m.segment.Accepts(e.copy.declared) == nil
}

// secondBeside has the second phase run while g starts, which has the lease,
// and may reach the segment, when it is over. It begins when g reaches for the
// segment, is ready, or has had its headStart.
func (s *Service) secondBeside(m *memory, g *generation, c *copying) *passage {
	p := newPassage()
	s.spawn(func() {
		select {
		case <-p.due:
		case <-p.hurry:
		}
		began, before := time.Now(), c.taking.Copied()
		err := c.taking.SecondBeside(s.run, p.hurry)
		shut := p.settle(err, func() error { return m.segment.Lease(g.number, 0) })
		took, changed := time.Since(began), c.taking.Copied()-before
		s.tell(func() {
			switch {
			case errors.Is(shut, errShut): // why is told
			case shut != nil:
				s.startFailed(g, shut)
			case g.early:
				s.becameReady(g)
			}
		})
		if err != nil {
			m.abandon(c)
			return
		}
		s.commitCopy(m, c, took, changed)
	})
	return p
}

// tooEarly reports whether g, which is ready, may not reach the segment yet: it
// is ready once it may. Behind a proxy clients wait for that.
func (s *Service) tooEarly(g *generation) bool {
	g.early = g.passage.closed()
	switch {
	case !g.early:
	case len(s.proxies.all) > 0:
		g.passage.hasten()
	default:
		g.passage.begin()
		time.AfterFunc(gentle, g.passage.hasten)
	}
	return g.early
}
