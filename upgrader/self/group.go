package self

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Group is a Self of which several services have shares: all of them go to the
// new upgrader, or none. Each uses its share as if it were the whole, and is
// answered when all have done so.
type Group struct {
	self *Self

	mu      sync.Mutex
	attempt *attempt        // under way; nil: none
	landing *landing        // what we take over; nil: nothing
	state   json.RawMessage // that came with it, of the group's own
}

// GroupConfig is what the group itself hands over with the shares.
type GroupConfig struct {
	State json.RawMessage
	Files []File // lent
	// Released is called when every service has let go, before the new upgrader
	// is told. nil: nobody is.
	Released func()
}

// grouped is the state of a bundle, and of what is said at the end.
type grouped struct {
	Group  json.RawMessage            `json:"group,omitempty"`
	Shares map[string]json.RawMessage `json:"shares"`
}

// NewGroup divides s, which may be nil: then nothing is handed over.
func NewGroup(s *Self) (*Group, error) {
	g := &Group{self: s}
	in := s.Inherited()
	if in == nil {
		return g, nil
	}
	var all grouped
	if err := json.Unmarshal(in.State, &all); err != nil || all.Shares == nil {
		return nil, errors.New("self: the old upgrader does not hand over several services")
	}
	g.state = all.Group
	g.landing = &landing{in: in, waiting: map[string]arrival{}, shares: map[string]*Inheritance{}}
	for name, state := range all.Shares {
		share := &Inheritance{Bundle: Bundle{State: state}, way: landingShare{g.landing, name}}
		for n, f := range in.Files {
			if rest, of := strings.CutPrefix(f.Name, name+"/"); of && f.File != nil {
				share.Files = append(share.Files, File{rest, f.File})
				in.Files[n].File = nil
			}
		}
		g.landing.shares[name] = share
	}
	return g, nil
}

// Inherited is what the group itself was handed, and the names of the services
// that were; nil when nothing was.
func (g *Group) Inherited() (state json.RawMessage, names []string, in *Inheritance) {
	if g.landing == nil {
		return nil, nil, nil
	}
	for name := range g.landing.shares {
		names = append(names, name)
	}
	return g.state, names, g.landing.in
}

// Share is that of a service.
func (g *Group) Share(name string) *Self {
	if g.self == nil {
		return nil
	}
	s := &Self{share: &share{g, name}}
	if g.landing != nil {
		s.inherited = g.landing.shares[name]
	}
	return s
}

// Begin begins a self-upgrade of the services with these names: each has to
// use its share, or to be declined. Preconditions: none is under way.
func (g *Group) Begin(c GroupConfig, names []string) {
	a := &attempt{group: g, config: c, absent: map[string]bool{}, waits: map[string]bool{}, shares: map[string]wish{}, done: make(chan struct{})}
	for _, name := range names {
		a.absent[name], a.waits[name] = true, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.attempt = a
}

// current is the attempt under way, or the last one.
func (g *Group) current() *attempt {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.attempt
}

// Decline says that a service does not come along: nothing is handed over. It
// does nothing once all have come.
func (g *Group) Decline(name string, err error) {
	if a := g.current(); a != nil {
		a.decline(name, err)
	}
}

// Gathered reports whether Upgrade may be called: at once, or, of a share, when
// all that go together could be handed over. If not, again is called when that
// has changed.
func (s *Self) Gathered(again func()) bool {
	if s.share == nil {
		return true
	}
	a := s.share.group.current()
	return a == nil || a.gathered(s.share.name, again)
}

// share is one service's part of a Group.
type share struct {
	group *Group
	name  string
}

// wish is one service's call of Upgrade.
type wish struct {
	ctx    context.Context
	bundle Bundle
	pass   func(Send) error
}

// attempt is one self-upgrade of a group.
type attempt struct {
	group  *Group
	config GroupConfig
	done   chan struct{} // closed when its outcome is known

	mu     sync.Mutex
	absent map[string]bool // those that cannot be handed over yet
	agains []func()        // of those that can
	waits  map[string]bool // for the shares of these
	shares map[string]wish
	over   bool
	heir   *Heir
	err    error

	released map[string]json.RawMessage
	told     chan struct{} // closed when the heir was told, or could not be
	toldErr  error
	stopped  bool // the heir was told to stop
}

func (s *share) upgrade(ctx context.Context, b Bundle, pass func(Send) error) (*Heir, error) {
	a := s.group.current()
	if a == nil {
		return nil, errors.New("self: a service of several was to be handed over alone")
	}
	a.come(s.name, wish{ctx, b, pass})
	defer context.AfterFunc(ctx, func() { a.decline(s.name, ctx.Err()) })()
	<-a.done
	if a.err != nil {
		return nil, a.err
	}
	return &Heir{Pid: a.heir.Pid, way: attemptShare{a, s.name}}, nil
}

// gathered notes that a service could be handed over.
func (a *attempt) gathered(name string, again func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over && a.absent[name] {
		if delete(a.absent, name); len(a.absent) > 0 {
			a.agains = append(a.agains, again)
		} else {
			a.wakeLocked()
		}
	}
	return a.over || len(a.absent) == 0
}

func (a *attempt) wakeLocked() {
	for _, again := range a.agains {
		go again() // it may wait for whoever waits for us
	}
	a.agains = nil
}

// come notes a share; with the last one the upgrade begins.
func (a *attempt) come(name string, w wish) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waits, name)
	a.shares[name] = w
	if !a.over && len(a.waits) == 0 {
		a.over = true
		go a.run()
	}
}

func (a *attempt) decline(name string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return
	}
	a.over, a.err = true, fmt.Errorf("self: %s does not come along: %w", name, err)
	close(a.done)
	a.wakeLocked()
}

// run upgrades with all shares: nobody else uses them meanwhile.
func (a *attempt) run() {
	defer close(a.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	all := grouped{Group: a.config.State, Shares: map[string]json.RawMessage{}}
	b := Bundle{Files: a.config.Files}
	for name, w := range a.shares {
		defer context.AfterFunc(w.ctx, cancel)()
		all.Shares[name] = w.bundle.State
		for _, f := range w.bundle.Files {
			b.Files = append(b.Files, File{name + "/" + f.Name, f.File})
		}
	}
	if b.State, a.err = json.Marshal(all); a.err != nil {
		return
	}
	a.heir, a.err = a.group.self.upgrade(ctx, b, func(send sendOf) error {
		for name, w := range a.shares {
			if err := w.pass(func(p Parcel) error { return send(name, p) }); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
	a.released, a.told = map[string]json.RawMessage{}, make(chan struct{})
}

// attemptShare is a share's Heir.
type attemptShare struct {
	*attempt
	name string
}

func (s attemptShare) release(state json.RawMessage) error {
	a := s.attempt
	a.mu.Lock()
	a.released[s.name] = state
	last := len(a.released) == len(a.shares)
	a.mu.Unlock()
	if last {
		if a.config.Released != nil {
			a.config.Released()
		}
		text, err := json.Marshal(grouped{Shares: a.released})
		if err == nil {
			err = a.heir.Release(text)
		}
		a.toldErr = err
		close(a.told)
	}
	<-a.told
	return a.toldErr
}

// stop tells the heir once, whatever number of services are told.
func (s attemptShare) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	return s.heir.Stop()
}

// landing is a Group's inheritance.
type landing struct {
	in     *Inheritance
	shares map[string]*Inheritance

	mu      sync.Mutex
	waiting map[string]arrival // those that are ready
	err     error              // why it came to nothing
}

// arrival is one service's call of Ready.
type arrival struct {
	take   func(Parcel) error
	answer chan<- outcome
}

// say gives its answer, the first that there is.
func (a arrival) say(o outcome) {
	select {
	case a.answer <- o:
	default:
	}
}

type outcome struct {
	state json.RawMessage
	err   error
}

type landingShare struct {
	*landing
	name string
}

func (s landingShare) ready(ctx context.Context, take func(of string, p Parcel) error) (json.RawMessage, error) {
	answer := make(chan outcome, 1)
	l := s.landing
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return nil, l.err
	}
	l.waiting[s.name] = arrival{func(p Parcel) error { return take(s.name, p) }, answer}
	if len(l.waiting) == len(l.shares) {
		go l.run(context.WithoutCancel(ctx))
	}
	l.mu.Unlock()
	select {
	case o := <-answer:
		return o.state, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("self: %w", ctx.Err())
	}
}

// run is ready for all.
func (l *landing) run(ctx context.Context) {
	text, err := l.in.way.ready(ctx, func(of string, p Parcel) error {
		a, known := l.waiting[of]
		if !known {
			closeSockets(p.Sockets)
			return fmt.Errorf("a parcel for %q", of)
		}
		return a.take(p)
	})
	l.in.drop()
	var all grouped
	if err == nil && text != nil {
		err = json.Unmarshal(text, &all)
	}
	for name, a := range l.waiting {
		a.say(outcome{all.Shares[name], err})
	}
}

func (s landingShare) failed(why string) {
	l := s.landing
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = fmt.Errorf("self: %s: %s", s.name, why)
	l.in.way.failed(s.name + ": " + why)
	for _, a := range l.waiting {
		a.say(outcome{err: l.err})
	}
}

// Fail tells the old upgrader that nothing is taken over.
func (g *Group) Fail(why string) {
	if g == nil || g.landing == nil {
		return
	}
	g.landing.in.Failed(why)
}
