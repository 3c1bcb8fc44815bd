package upgrader

import (
	"context"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/tail"
)

// phase says where in its life a generation is.
type phase string

const (
	phaseStarting phase = "starting"
	phaseServing  phase = "serving"
	phaseCanary   phase = "canary"   // ready, gets a share of the new connections
	phaseWarm     phase = "warm"     // steered away, kept for a rollback
	phaseLeaving  phase = "leaving"  // asked to quit, or about to be; its successor waits (exclusive)
	phaseDraining phase = "draining" // left behind by an overlap swap, ends on its own
	phaseDying    phase = "dying"    // failed or crashed: what is left is being killed
	phaseGone     phase = "gone"
)

// A generation is one run of the command. The loop owns every field; what
// goroutines need they are given.
type generation struct {
	number  int
	recipe  *recipe // nil when adopted
	phase   phase
	child   *launch.Child // nil until it was started, and when adopted
	main    process.Identity
	members *process.Members
	tail    *tail.Tail
	notify  *notify.Socket
	hearing hearing
	status  *launch.Status // how its main process ended, once it did
	adopted bool           // another upgrader started it
	follows bool           // it daemonised, or said MAINPID=: main is not the child
	exe     process.Exe    // what its main process executes, once it was asked

	mark       string   // tells its processes from those of others
	calls      *os.File // listener of its seccomp filter; nil: its binds are its own
	learns     bool     // without a look at its sockets, which is not permitted here
	pauseBinds func()   // waits until nobody answers its binds; nil: nobody does
	offset     int64    // up to which its stderr was forwarded, once that is known

	started, ready time.Time
	launching      time.Time               // when its launch began
	due            time.Time               // when it has to be ready; zero: ReadyTimeout after it runs
	tries          int                     // how many before it were blocked
	predecessor    int                     // pid of the one before, 0: none
	notified       bool                    // it sent READY=1
	said           string                  // its last STATUS=
	sandbox        bool                    // it asked for a seccomp listener of its own
	listens        map[*listener.Lane]bool // it called listen(2) on them

	run       context.Context // ends with the generation
	cancel    context.CancelFunc
	proven    context.CancelFunc // ends what watches for its readiness
	grace     context.Context    // ends when it is to be killed
	hurry     context.CancelFunc
	exited    chan struct{} // closed when its main process is gone
	ahead     <-chan armed  // what was done for its start while its predecessor serves; nil: nothing
	passage   *passage      // what keeps it from the segment until it may write; nil: nothing
	early     bool          // it was ready before it might
	begun     bool          // something of it may run: its end is told
	ended     bool          // its main process is gone: exited is closed
	asked     bool          // a goroutine waits for its end
	immortal  bool          // some of its processes cannot be killed
	asking    io.Closer     // what Quit.Hold gave; nil: nothing
	answered  chan struct{} // closed when what asked it to quit by Config.Quit has had its say; nil: nothing does
	confirmed bool          // it has saved and said so: its successor may start beside it
	failed    bool          // it was ready, and its clients were steered away
	lost      time.Time     // when the end of its main process was noticed
	watchdog  watchdog
	flip      *flip    // nil: it does not speak tableflip's dialect
	verdict   approval // on the memory under it
	then      func()   // runs in the loop when nothing of it is left
}

// newGeneration counts a start.
func (s *Service) newGeneration(r *recipe) *generation {
	s.last++
	run, cancel := context.WithCancel(s.run)
	g := &generation{
		number: s.last, mark: s.mark, recipe: r.use(), phase: phaseStarting, started: time.Now(),
		run: run, cancel: cancel, exited: make(chan struct{}), listens: map[*listener.Lane]bool{},
	}
	g.grace, g.hurry = context.WithCancel(run)
	g.predecessor = s.serving.pid()
	if s.state == Reverting && s.swap != nil { // a swap is under way still
		g.predecessor = s.swap.from.pid()
	}
	s.generations[g.number] = g
	return g
}

// pid is the main process, 0 before there is one.
func (g *generation) pid() int {
	if g == nil {
		return 0
	}
	return g.main.Pid
}

// exit tells how the main process ended, nil while it runs or when that
// cannot be known.
func (g *generation) exit() *control.ExitStatus {
	if g.status == nil {
		return nil
	}
	e := &control.ExitStatus{Code: g.status.Code}
	if g.status.Signal != 0 {
		e.Signal = signalName(g.status.Signal)
	}
	return e
}

// tailLines are the last lines of its stderr.
func (g *generation) tailLines() []string {
	if g.tail == nil {
		return nil
	}
	return g.tail.Tail(20)
}

// signal sends sig to the main process.
func (g *generation) signal(sig syscall.Signal) error {
	if g.main.Start == 0 {
		return process.ErrGone
	}
	return g.main.Signal(sig)
}

// forget ends what belongs to a generation of which no process is left.
func (s *Service) forget(g *generation) {
	g.phase = phaseGone
	s.disarm(g)
	s.proxies.lives.end(g.number)
	g.cancel()
	g.recipe.release()
	if g.tail != nil {
		s.spawn(func() { _ = g.tail.Close() }) // flushes the last lines; nothing else can be done
	}
	if g.notify != nil {
		_ = g.notify.Close() // its directory is ours
	}
	if g.asking != nil {
		_ = g.asking.Close() // nobody is left who could be asked
	}
	g.flip.close()
	delete(s.generations, g.number)
	s.predecessorsGone()
	s.observe(Event{What: EventGone, Generation: g.number, Pid: g.pid()})
	s.save()
}

// held tells the lanes whether a process of a generation was seen with one
// open: one look, since it decides only what a second bind is answered.
func (s *Service) held(number int, inode uint64) bool {
	var m *process.Members
	_ = s.ask(s.run, func() {
		if g := s.generations[number]; g != nil {
			m = g.members
		}
	})
	if m == nil {
		return true
	}
	inodes, _ := m.Inodes() // what could be read
	_, held := inodes[inode]
	return held
}
