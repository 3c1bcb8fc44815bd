package upgrader

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/process"
)

// Service is one wrapped command, its claims and its policy. Its loop owns
// everything in it that changes.
type Service struct {
	config Config
	set    *listener.Set
	reaper *process.Reaper
	files  files
	mark   string // tells our processes from those of another upgrader

	facts chan func()        // what goroutines learned, run by the loop
	run   context.Context    // ends with the loop
	end   context.CancelFunc // ends run
	tasks sync.WaitGroup     // goroutines the loop started
	began time.Time

	state       State
	since       time.Time
	last        int // number of the last generation
	generations map[int]*generation
	serving     *generation // answers clients, or is asked to quit for its successor (exclusive)
	starting    *generation // is to serve next
	warm        *generation // left on probation, kept running to be steered back to
	current     *recipe     // what a generation that died is started from again
	fallback    *recipe     // what serves again if the successor fails
	previous    *recipe     // what served before the last commit
	claims      []*listener.Claim
	served      time.Time // when somebody last became ready
	intercepts  bool      // binds are taken over
	beside      error     // why no successor starts while its snapshot is completed; nil: see besides
	notifies    bool      // a generation said READY=1: its successors will too

	failed   *generation // what the revert under way came of
	swap     *swap       // under way, or committed and on probation
	queued   *swap
	swaps    int
	crash    *control.Verdict // on a death that nobody was started after yet
	verdicts []control.Verdict
	counters control.Counters
	totals   control.Totals

	handing     *handing      // a self-upgrade that was asked for; nil: none
	inheritance *inheritance  // what we take over; nil: we are in charge
	charge      chan struct{} // closed once we are
	left        chan struct{} // closed once somebody else is

	memory  *memory // nil: no segment is shared
	proxies proxies
	store   *notify.Store // what the server parks; nil: nothing can be
	refused int           // descriptors that could not be parked
	dropped int           // parked ones whose other end is gone
	saveDue bool          // save will be called

	failures int         // starts in a row that failed
	again    again       // a swap that failed and is to be tried again
	retry    *time.Timer // set while Down
	probing  context.CancelFunc
	hold     hold
	restarts int
	message  string
	result   Exit
	events   hub
}

// Exit is how the service ended.
type Exit struct {
	Code   int   // the exit status for whoever started us
	Reason error // nil after a stop that was asked for
	Heir   int   // pid of the upgrader that took over; 0: nobody did
}

// Run runs the service until it was stopped, or has stopped, and everything
// that it started is gone. ctx asks for a graceful stop, as Stop does.
func Run(ctx context.Context, c Config, ready func(*Service)) (Exit, error) {
	if err := c.check(); err != nil {
		c.Self.Inherited().Failed(oneLine(err.Error()))
		return Exit{Code: 100}, err
	}
	s := &Service{
		config: c, facts: make(chan func(), 64), state: Down, since: time.Now(), began: time.Now(),
		generations: map[int]*generation{}, reaper: new(process.Reaper), charge: make(chan struct{}), left: make(chan struct{}),
	}
	if c.Fleet != nil {
		s.reaper = c.Fleet.Reaper
	}
	s.run, s.end = context.WithCancel(context.Background())
	defer s.end()
	if err := s.open(); err != nil {
		c.Self.Inherited().Failed(oneLine(err.Error()))
		s.close()
		return Exit{Code: exitCode(err)}, err
	}
	defer s.close()
	if ready != nil {
		ready(s)
	}
	return s.loop(ctx), nil
}

// loop runs the facts until nothing is left to learn.
func (s *Service) loop(ctx context.Context) Exit {
	switch s.state {
	case Down:
		s.first()
	case Taking:
		s.beginTaking()
	}
	s.watchCommand()
	s.nextQueued()
	stop := ctx.Done()
	for s.state != Stopped {
		select {
		case fact := <-s.facts:
			fact()
		case <-stop:
			stop = nil
			s.stop(nil)
		}
		s.nextQueued()
	}
	s.observe(Event{What: EventStopped})
	return s.result
}

// tell hands the loop a fact. It reports false when the loop is over.
func (s *Service) tell(fact func()) bool {
	select {
	case s.facts <- fact:
		return true
	case <-s.run.Done():
		return false
	}
}

// ask runs f in the loop and waits for it.
func (s *Service) ask(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case s.facts <- func() { f(); close(done) }:
	case <-s.run.Done():
		return errOver
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-s.run.Done():
		return errOver
	}
}

var errOver = fmt.Errorf("upgrader: the service has stopped")

// spawn starts a goroutine that Run waits for.
func (s *Service) spawn(f func()) {
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		f()
	}()
}

// move goes where the table says. A move that the table does not have is a
// mistake of ours.
func (s *Service) move(m Move) {
	to, err := Next(s.state, m)
	if err != nil {
		panic(err)
	}
	s.state, s.since = to, time.Now()
	s.hold.turned(s)
	s.save()
}

// close releases what open took, after the loop.
func (s *Service) close() {
	s.hold.end()
	s.cancelRetry()
	s.again.cancel()
	elsewhere := s.handsOff()
	if elsewhere {
		close(s.left)
	}
	s.end()
	s.tasks.Wait()
	for _, g := range s.generations {
		g.cancel()
	}
	s.fallback.release()
	s.current.release()
	s.previous.release()
	s.closeProxies(elsewhere)
	s.closeStore()
	s.closeMemory()
	switch {
	case s.set == nil:
	case elsewhere:
		_ = s.set.Detach() // another upgrader has the sockets
	case s.state != Stopped && len(s.generations) > 0:
		_ = s.set.Detach() // it was not even opened: what was found serves on without us
	default:
		_ = s.set.Close() // the process ends; the kernel closes what is left
	}
	if !elsewhere {
		s.closeFiles()
	}
}

// startFailed is told when g could not be started, died, or was late.
func (s *Service) startFailed(g *generation, err error) {
	if g != s.starting || s.inheritance != nil && s.inheritance.assuming {
		return
	}
	if g.sandbox && s.config.Intercept == InterceptAuto {
		s.withoutTakeover(g)
		return
	}
	if s.state == Taking {
		s.giveUp(g, err)
		return
	}
	s.starting = nil
	switch s.state {
	case Swapping:
		s.move(StartFailed)
		s.kill(g, nil)
		s.conclude(control.RolledBack, err.Error(), g)
		s.swapAgain(err)
	case Replacing:
		s.move(StartFailed)
		s.revert(g, err.Error(), time.Now())
	case Reverting:
		s.move(StartFailed)
		s.conclude(control.Failed, fmt.Sprintf("%s; and the predecessor's own: %s", s.swap.reason, err), g)
		s.down(g, err)
	case Starting:
		s.move(StartFailed)
		if s.swap != nil && s.swap.to == g {
			s.conclude(control.Failed, err.Error(), g)
			if s.swap == nil && s.current != nil {
				s.swapAgain(err)
			}
		}
		s.down(g, err)
	}
}

// becameReady is told when readiness of g was proved.
func (s *Service) becameReady(g *generation) {
	if g != s.starting || !g.ready.IsZero() || s.tooEarly(g) || !s.approved(g) {
		return
	}
	if s.state == Taking {
		s.assume(g)
		return
	}
	g.ready = time.Now()
	g.exe = process.Exe{} // a script may have become its program: it is looked at again
	g.proven()
	s.keep(g.recipe) // once it is told that g is ready, its file may be replaced
	s.observe(Event{What: EventReady, Generation: g.number, Pid: g.pid(), Took: g.ready.Sub(g.started)})
	s.taken(g)
	s.watchIt(g)
	s.predecessorsGone()
	if err := s.set.Relisten(g.number); err != nil {
		s.note(g, "the queues cannot be deepened again", err)
	}
	if s.state == Swapping && len(s.swap.canary.Steps) > 0 {
		s.beginCanary(g)
		return
	}
	s.promote(g)
}

// promote has g, which is ready, serve all new connections.
func (s *Service) promote(g *generation) {
	s.steer(g)
	s.observe(Event{What: EventSteered, Generation: g.number})
	predecessor := s.serving
	s.serving, s.starting = g, nil
	g.phase = phaseServing
	before := s.state
	s.move(Ready)
	s.message, s.served = "", time.Now()
	switch before {
	case Swapping, Sharing:
		s.setFallback(s.current)
		s.previous = swapRecipe(s.previous, s.current)
		if predecessor != nil {
			s.leave(predecessor)
		}
		s.commit(g)
		s.probation(g)
	case Replacing:
		s.previous = swapRecipe(s.previous, s.fallback)
		s.commit(g)
		s.probation(g)
	case Reverting:
		s.conclude(control.RolledBack, s.swap.reason, s.failed)
		s.failed = nil
		s.setFallback(nil)
		s.previous = swapRecipe(s.previous, nil) // it serves again
	case Starting:
		s.crashOver(control.Committed, g)
		s.commit(g)
	}
	if before != Swapping { // else those of the predecessor move first
		s.serveProxies(g)
	}
	if g.recipe.served { // it ran before: what its successors do was learned from others
		s.notifies = g.recipe.notifies
	}
	g.recipe.served = true
	s.setCurrent(g.recipe)
	s.writeStatusFile()
	s.save()
}

// steer sends all new connections to g.
func (s *Service) steer(g *generation) {
	if err := s.set.Steer(g.number); err != nil && !noLane(err) {
		s.note(g, "new connections cannot be steered", err)
	}
}

// note tells of something that does not change what happens.
func (s *Service) note(g *generation, message string, err error) {
	n := 0
	if g != nil {
		n = g.number
	}
	s.observe(Event{What: EventNote, Generation: n, Message: message, Err: err, Warning: err != nil})
}

// exitCode maps an error of a start to our exit status.
func exitCode(err error) int {
	switch code := launch.ExitCode(err); {
	case code != 0:
		return code
	case errors.Is(err, ErrUsage):
		return 100
	default:
		return 111
	}
}
