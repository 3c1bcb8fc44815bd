package monitor

import (
	"context"
	"errors"
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
)

// A Source is a running upgrader.
type Source interface {
	// Status tells how its services are.
	Status(ctx context.Context) ([]control.Status, error)
	// Events calls f with what happens from now on, until the upgrader leaves, ctx ends or f fails.
	Events(ctx context.Context, f func(control.Event) error) error
}

// A Display shows a Board.
type Display interface {
	// Happened is told each event, which the board knows already.
	Happened(e control.Event) error
	// Show is told that the board has a new status. after: an event was the reason.
	Show(b *Board, now time.Time, after bool) error
}

// Config says how Follow follows.
type Config struct {
	Every    time.Duration   // between looks at what changes without an event; 0: 1 s
	Together time.Duration   // events that come within this share a look; 0: 50 ms
	Patience time.Duration   // how long one that has left may take to come back; 0: 10 s
	Again    <-chan struct{} // asks for what is known to be shown again; nil: nobody does
}

// retryAfter is the pause between attempts to reach an upgrader that has left.
const retryAfter = 100 * time.Millisecond

// Follow shows what s does on d until ctx ends (nil), the upgrader has left for good (control.ErrLeft or
// control.ErrNotRunning, wrapped), or d fails (that error).
func Follow(ctx context.Context, s Source, d Display, c Config) error {
	c.Every, c.Together, c.Patience = or(c.Every, time.Second), or(c.Together, 50*time.Millisecond), or(c.Patience, 10*time.Second)
	ctx, cancel := context.WithCancel(ctx)
	events, ended := make(chan control.Event), make(chan error, 1)
	go func() { ended <- listen(ctx, s, c.Patience, events) }()
	defer func() {
		cancel()
		<-ended
	}()
	b := &Board{}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	var soon <-chan time.Time // a look that is due after events
	look := func(after bool) error {
		all, err := s.Status(ctx)
		if err != nil {
			return nil // it is leaving, or being replaced: who listens to it finds out
		}
		b.Know(all)
		return d.Show(b, time.Now(), after)
	}
	err := look(false)
	for err == nil {
		select {
		case e := <-events:
			b.Happened(e)
			if err = d.Happened(e); soon == nil {
				soon = time.After(c.Together)
			}
		case <-soon:
			soon = nil
			err = look(true)
		case <-tick.C:
			err = look(false)
		case <-c.Again:
			err = d.Show(b, time.Now(), false)
		case err = <-ended:
			ended <- nil // for the end
			if err == nil {
				err = control.ErrLeft
			}
			if ctx.Err() != nil {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
	return err
}

func or(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}

// listen passes events on until ctx ends or the upgrader has been away for longer than patience.
func listen(ctx context.Context, s Source, patience time.Duration, events chan<- control.Event) error {
	for here := time.Now(); ; {
		err := s.Events(ctx, func(e control.Event) error {
			here = time.Now()
			select {
			case events <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, control.ErrLeft) && !errors.Is(err, control.ErrNotRunning):
			return err
		case err == nil || !errors.Is(err, control.ErrNotRunning):
			here = time.Now() // it was there until now
		case time.Since(here) > patience:
			return err
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return nil
		}
	}
}
