package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/self"
	"github.com/upgrader/upgrader/upgrader/state"
)

// Config describes a fleet.
type Config struct {
	Name     string   // names it among the upgraders of one user
	Command  []string // what is shown for it
	StateDir string   // where its lock and control socket lie, and below it each service's own state dir
	PidFile  string   // "": none

	Self     *self.Self         // this process as one that can be replaced; nil: it cannot
	NoSelf   string             // why not; "": not on this system
	Carry    func() []self.File // what else a successor of this process is handed; nil: nothing. The files are lent
	Services []upgrader.Config  // at least one; their names are unique. StateDir, Observe and Fleet are the fleet's to set

	// Observe is told what happens, from the loops of the services: it must
	// not block. nil: nobody.
	Observe func(service string, e upgrader.Event)
	// Up is called once, when every service has become ready or has ended:
	// failed are those that have not become ready. nil: nobody.
	Up func(failed []Ended)
	// Ended is called when a service has ended. nil: nobody.
	Ended func(Ended)
}

// Ended is how one service ended.
type Ended struct {
	Service string
	Exit    upgrader.Exit
	Err     error // as of upgrader.Run
}

// Reason is why; nil after a stop that was asked for.
func (e Ended) Reason() error {
	if e.Err != nil {
		return e.Err
	}
	return e.Exit.Reason
}

// Fleet are services that run in this process.
type Fleet struct {
	config  Config
	reaper  *process.Reaper
	members []*member
	run     context.Context    // ends when a stop was asked for
	stop    context.CancelFunc // asks for it
	group   *self.Group
	shared  shared
	charge  chan struct{} // closed when this process is in charge

	mu      sync.Mutex
	running int           // members
	coming  int           // those that have neither been ready nor ended
	failed  []Ended       // those that ended before they were ready
	over    chan struct{} // closed when none runs
	handing *handing      // a self-upgrade under way; nil: none
}

// shared is what the services share in the file system.
type shared struct {
	dir    *state.Dir
	lock   *state.Lock
	pid    *state.PidFile
	server *control.Server
}

// ServiceDir is the state dir of one service of a fleet.
func ServiceDir(dir, service string) string { return filepath.Join(dir, "service."+service) }

// Run runs the services until none is left. ctx asks for a graceful stop, as
// Stop does. The exit status is that of the first service, in the order of
// Config, whose own is not 0. ready is told when requests are answered.
func Run(ctx context.Context, c Config, ready func(*Fleet)) (upgrader.Exit, error) {
	f := &Fleet{config: c, reaper: new(process.Reaper), over: make(chan struct{}), charge: make(chan struct{})}
	f.run, f.stop = context.WithCancel(ctx)
	defer f.stop()
	inherited, err := f.inherit()
	if err == nil {
		err = f.check(inherited)
	}
	if err != nil {
		f.config.Self.Inherited().Failed(err.Error())
		return upgrader.Exit{Code: 100}, err
	}
	var tasks sync.WaitGroup
	open, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	if err := f.open(inherited == nil); err != nil {
		f.config.Self.Inherited().Failed(err.Error())
		return upgrader.Exit{Code: 111}, err
	}
	defer f.release() // the last: until then nobody else answers there
	defer tasks.Wait()
	defer end()
	tasks.Go(func() { _ = f.reaper.Run(open) }) // it ends with open
	f.begin(inherited)
	tasks.Go(func() {
		if inherited != nil && !f.takeOver(inherited) {
			return
		}
		close(f.charge)
		if err := f.shared.server.Run(open); err != nil {
			f.note("the control socket is gone", err)
		}
	})
	if ready != nil {
		ready(f)
	}
	<-f.over
	f.awaitVerdicts()
	var first upgrader.Exit
	for _, m := range f.members {
		ended := m.last()
		if ended.Exit.Heir != 0 {
			return upgrader.Exit{Heir: ended.Exit.Heir}, nil // how those ended that had stopped is its to tell
		}
		if first.Code == 0 {
			first.Code = ended.Exit.Code
		}
		if reason := ended.Reason(); reason != nil && first.Reason == nil {
			first.Reason = fmt.Errorf("%s: %w", m.config.Name, reason)
		}
	}
	return first, nil
}

// check makes the members, and refuses what cannot be.
func (f *Fleet) check(inherited *inherited) error {
	if len(f.config.Services) == 0 {
		return fmt.Errorf("%w: no service", upgrader.ErrUsage)
	}
	shared := &upgrader.Fleet{Reaper: f.reaper}
	for _, c := range f.config.Services {
		shared.Proxies += len(c.Proxies)
	}
	seen := map[string]bool{}
	for _, c := range f.config.Services {
		if err := state.CheckName(c.Name); err != nil {
			return fmt.Errorf("%w: %w", upgrader.ErrUsage, err)
		}
		if seen[c.Name] {
			return fmt.Errorf("%w: there are two services called %s", upgrader.ErrUsage, c.Name)
		}
		seen[c.Name] = true
		c.Fleet = shared
		c.StateDir = ServiceDir(f.config.StateDir, c.Name)
		c.Self, c.NoSelf = f.group.Share(c.Name), f.config.NoSelf
		if err := c.Check(); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		f.members = append(f.members, newMember(f, c))
	}
	return inherited.check(seen)
}

// InCharge is closed once this process decides: at once, unless it takes over
// from another.
func (f *Fleet) InCharge() <-chan struct{} { return f.charge }

// open takes what the services share: but for what another process has, if
// this one is to take over from it. It is given back by release, when they have
// ended.
func (f *Fleet) open(alone bool) (err error) {
	x := &f.shared
	if x.dir, err = state.Open(f.config.StateDir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.release()
		}
	}()
	if alone {
		if x.lock, err = x.dir.Lock(f.config.Name, f.config.Command); err != nil {
			return err
		}
	}
	if alone && f.config.PidFile != "" {
		if x.pid, err = state.WritePidFile(state.PidFileConfig{Path: f.config.PidFile}); err != nil {
			return err
		}
	}
	if err := process.Subreaper(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	for _, m := range f.members {
		if m.config.User == nil {
			continue
		}
		if err := os.Chmod(x.dir.Path(), 0o711); err != nil { // its server's notify socket lies below
			return fmt.Errorf("fleet: let the server of %s reach its notify socket: %w", m.config.Name, err)
		}
	}
	if alone {
		x.server, err = control.ListenFor(x.dir.Path(), f.Services)
	}
	return err
}

// release gives it back, unless it is another process's.
func (f *Fleet) release() {
	if f.handedOver() {
		return
	}
	x := &f.shared
	if x.pid != nil {
		_ = x.pid.Remove() // a stale one is recognised
	}
	if x.lock != nil {
		_ = x.lock.Release() // the kernel does at exit
	}
}

// note tells of something that does not change what happens.
func (f *Fleet) note(message string, err error) {
	f.observe("", upgrader.Event{Time: time.Now(), What: upgrader.EventNote, Message: message, Error: err.Error(), Warning: true})
}

// Services are what requests can select.
func (f *Fleet) Services() []control.Service {
	all := make([]control.Service, len(f.members))
	for i, m := range f.members {
		c := m.config
		all[i] = control.Service{Server: cmp.Or(c.Server, c.Name), ID: c.ID, Zone: c.Zone, Type: c.Type, Handler: m}
	}
	return all
}

// Stop asks all services for a graceful full stop; a second time for one at once.
func (f *Fleet) Stop() {
	if f.run.Err() != nil {
		f.Kill()
		return
	}
	f.stop()
}

// Kill asks all services for a full stop at once.
func (f *Fleet) Kill() {
	f.stop()
	f.each((*upgrader.Service).Kill)
}

// Swap asks for a swap of all services at once; asked says who did, for the
// verdicts.
func (f *Fleet) Swap(asked string) { f.each(func(s *upgrader.Service) { s.Swap(asked) }) }

// Signal sends sig to the main processes of all serving generations.
func (f *Fleet) Signal(sig syscall.Signal) { f.each(func(s *upgrader.Service) { s.Signal(sig) }) }

// Alive returns when all services answer: nil, or why one does not.
func (f *Fleet) Alive(ctx context.Context) error {
	for _, m := range f.members {
		s := m.running()
		if s == nil {
			continue
		}
		if err := s.Alive(ctx); err != nil && ctx.Err() != nil { // else it has stopped meanwhile
			return fmt.Errorf("fleet: %s: %w", m.config.Name, err)
		}
	}
	return nil
}

func (f *Fleet) each(do func(*upgrader.Service)) {
	for _, m := range f.members {
		if s := m.running(); s != nil {
			do(s)
		}
	}
}

func (f *Fleet) observe(service string, e upgrader.Event) {
	if f.config.Observe != nil {
		f.config.Observe(service, e)
	}
}

// cameUp is told once of each member: that it was ready, or has ended before.
func (f *Fleet) cameUp(failed *Ended) {
	f.mu.Lock()
	f.coming--
	if failed != nil {
		f.failed = append(f.failed, *failed)
	}
	up, all := f.coming == 0, f.failed
	f.mu.Unlock()
	if up && f.config.Up != nil {
		f.config.Up(all)
	}
}

// again counts one more member that runs, unless the fleet is over.
func (f *Fleet) again() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running == 0 || f.run.Err() != nil {
		return false
	}
	f.running++
	return true
}

// ended counts one less.
func (f *Fleet) ended(e Ended) {
	if f.config.Ended != nil {
		f.config.Ended(e)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running--; f.running == 0 {
		close(f.over)
	}
}
