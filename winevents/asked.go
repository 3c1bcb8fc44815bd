package winevents

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// AskedConfig is what a server does when it is asked.
type AskedConfig struct {
	Times      Times
	Namespaces []Namespace // nil: both
	Grant      []string    // SIDs of more users that may ask, beside this one, the system and administrators

	// Stop stops the services. It is called once, with Kill, Stop or Quit; its
	// context ends after Times.Services, and it should return then. Required.
	Stop func(context.Context, Signal) error
	// Save makes the shared memory complete and sets its saved marker. Its error
	// means that nothing is confirmed. It is called after Stop returned or was too
	// late (Stopping says so): a server that cannot save soundly while its services
	// still run returns an error then. nil: nothing to save.
	Save func(context.Context, Stopping) error
	// Reload reads the configuration again; several signals within Times.Hold are
	// one. It should return soon: other signals wait. nil: Reload is ignored.
	Reload func(context.Context)
	// Observe is told what happens, on the goroutine of NewAsked or Run. nil: nobody is.
	Observe func(Event)
}

// Stopping is what Save is told.
type Stopping struct {
	Signal Signal // Kill if a successor waits for the confirmation
	Err    error  // of Stop; ErrServicesRunning when it has not returned in time
}

// Asked is the asked side: a server that holds its events. Holding them all from
// the start is what makes signals safe: those that are set while it does not
// look, and the confirmation that its asker is slow to fetch.
type Asked struct {
	kernel   kernel
	config   AskedConfig
	times    Times
	identity Identity
	events   []event  // one for each of watched
	watched  []Signal // what the event of that index says
	confirms []event
	closing  sync.Once
}

// NewAsked creates this process's events and holds them until Close. Call it
// before the pid file is written. An event that is there already and signalled
// was meant for an earlier process of this id: it is reset.
func NewAsked(config AskedConfig) (*Asked, error) {
	k, err := newKernel()
	if err != nil {
		return nil, fmt.Errorf("winevents: asked side: %w", err)
	}
	return newAsked(k, config)
}

func newAsked(k kernel, config AskedConfig) (*Asked, error) {
	if config.Stop == nil {
		return nil, errors.New("winevents: asked side: no Stop")
	}
	a := &Asked{kernel: k, config: config, times: config.Times.withDefaults()}
	err := a.open()
	if err != nil {
		_ = a.Close() // of handles that are ours; what failed counts
		return nil, fmt.Errorf("winevents: asked side: %w", err)
	}
	return a, nil
}

func (a *Asked) open() (err error) {
	if a.identity, err = a.kernel.self(); err != nil {
		return fmt.Errorf("own identity: %w", err)
	}
	for _, n := range namespaces(a.config.Namespaces) {
		// Kill first: of several that are signalled the lowest counts.
		for _, s := range []Signal{Kill, Quit, Stop, Reload, KillSuccess} {
			name := string(n) + s.Name(a.identity.Pid)
			e, existed, err := a.kernel.createEvent(name, a.config.Grant)
			if err != nil {
				return fmt.Errorf("event %s: %w", name, err)
			}
			if s == KillSuccess {
				a.confirms = append(a.confirms, e)
			} else {
				a.events, a.watched = append(a.events, e), append(a.watched, s)
			}
			if existed {
				if err := e.Reset(); err != nil {
					return fmt.Errorf("event %s: %w", name, err)
				}
				a.observe(Event{What: EventStale, Object: name})
			}
		}
	}
	return nil
}

// Identity is what to write to the pid file.
func (a *Asked) Identity() Identity { return a.identity }

// Close releases the events. Run must have returned. Only its first call does
// something.
func (a *Asked) Close() (err error) {
	a.closing.Do(func() {
		for _, e := range append(a.events, a.confirms...) {
			err = errors.Join(err, e.Close())
		}
	})
	return err
}

func (a *Asked) observe(e Event) {
	if a.config.Observe != nil {
		e.Pid = a.identity.Pid
		a.config.Observe(e)
	}
}
