package winevents

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Run serves the signals. It returns nil once Kill, Stop or Quit has been served
// (after Kill: saved, confirmed and lingered), and the server should exit then;
// the context's error when that ends first, also if it ends the stopping or the
// lingering; Stop's error beside either. Nothing is confirmed after an error of
// Save. Only with ErrServicesRunning it returns without Stop having returned.
func (a *Asked) Run(ctx context.Context) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := newWaiter(watching, a.kernel)
	if err != nil {
		return fmt.Errorf("winevents: asked side: %w", err)
	}
	s := &serving{Asked: a, signals: make(chan Signal), broken: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.watch(watching, w)
	}()
	s.deaf = func() {
		cancel()
		<-ended
	}
	defer func() {
		s.deaf()
		_ = w.close() // its event has no name and nobody else
	}()
	if err := s.serve(ctx); err != nil {
		return fmt.Errorf("winevents: asked side: %w", err)
	}
	return nil
}

// serving is one Run.
type serving struct {
	*Asked
	signals chan Signal
	broken  chan error  // why there are no more signals
	killed  atomic.Bool // Kill came, whether or not it was passed on
	deaf    func()      // ends watch and waits for that
}

// watch passes signals on, until the context ends.
func (s *serving) watch(ctx context.Context, w *waiter) {
	objects := make([]handle, len(s.events))
	for i, e := range s.events {
		objects[i] = e
	}
	for {
		i, err := w.wait(forever, objects...)
		if err == nil && i != timedOut {
			err = s.events[i].Reset() // not auto-reset if a stranger made it
		}
		if err != nil {
			s.broken <- err
			return
		}
		if i == timedOut { // forever is long, not endless
			continue
		}
		if s.watched[i] == Kill {
			s.killed.Store(true)
		}
		select {
		case s.signals <- s.watched[i]:
		case <-ctx.Done():
			return
		}
	}
}

func (s *serving) serve(ctx context.Context) error {
	var reload <-chan time.Time // both name spaces carry a signal: Hold gathers them
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-s.broken:
			if ended := ctx.Err(); ended != nil {
				return ended
			}
			return err
		case <-reload:
			reload = nil
			if s.config.Reload != nil {
				s.config.Reload(ctx)
			}
		case signal := <-s.signals:
			s.received(signal)
			if signal != Reload {
				return s.stop(ctx, signal)
			}
			if reload == nil {
				reload = time.After(s.times.Hold)
			}
		}
	}
}

// stop stops the services, saves, and confirms if a successor asked for it by
// then. A Stop or Quit alone is not confirmed: nobody waits.
func (s *serving) stop(ctx context.Context, signal Signal) error {
	err := s.stopServices(ctx, signal)
	if ended := ctx.Err(); ended != nil {
		return errors.Join(ended, err)
	}
	stopping := Stopping{Signal: signal, Err: err}
	if s.killed.Load() {
		stopping.Signal = Kill
	}
	if s.config.Save != nil {
		if failed := s.config.Save(ctx, stopping); failed != nil {
			return errors.Join(fmt.Errorf("save: %w", failed), err)
		}
	}
	s.observe(Event{What: EventSaved})
	s.deaf()
	if !s.asked() {
		return err
	}
	return errors.Join(s.confirm(ctx), err)
}

// stopServices returns Stop's error, or ErrServicesRunning.
func (s *serving) stopServices(ctx context.Context, signal Signal) error {
	limit, cancel := context.WithTimeout(ctx, s.times.Services)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.config.Stop(limit, signal) }()
	over, cut := limit.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case err := <-stopped:
			s.observe(Event{What: EventStopped, Err: err})
			return err
		case <-over: // it returns now if it is well behaved: a little patience
			over, cut = nil, time.After(s.times.Hold)
		case <-cut:
			s.observe(Event{What: EventCut})
			return ErrServicesRunning
		case more := <-s.signals:
			s.received(more)
		}
	}
}

// asked says whether Kill has come, also while nobody watched.
func (s *serving) asked() bool {
	killed := s.killed.Load()
	for i, e := range s.events {
		if s.watched[i] == Kill {
			got, err := s.kernel.wait(0, e)
			killed = killed || err == nil && got == 0
		}
	}
	return killed
}

// confirm says that we have saved, and lingers: what we share must outlive our
// successor's start.
func (s *serving) confirm(ctx context.Context) error {
	var failed []error
	for _, c := range s.confirms {
		if err := c.Set(); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == len(s.confirms) {
		return fmt.Errorf("confirm: %w", errors.Join(failed...))
	}
	s.observe(Event{What: EventConfirmed})
	linger := time.NewTimer(max(s.times.Hold, s.times.Linger))
	defer linger.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-linger.C:
		s.observe(Event{What: EventLingered})
		return nil
	}
}

func (s *serving) received(signal Signal) {
	s.observe(Event{What: EventReceived, Object: signal.Name(s.identity.Pid)})
}
