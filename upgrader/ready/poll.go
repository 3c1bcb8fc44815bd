package ready

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pace says how attempts are repeated.
type pace struct {
	first time.Duration // the first pause; each next one is longer by half
	most  time.Duration // the longest pause
	each  time.Duration // the time of one attempt
}

// hopeless is an error that no further attempt mends.
type hopeless struct{ error }

func (h hopeless) Unwrap() error { return h.error }

// poll repeats t until it succeeds, is hopeless, or ctx ends. The error then
// tells what the last complete attempt met.
func poll(ctx context.Context, t try, p pace) error {
	var last error
	for pause := p.first; ; pause = min(pause+pause/2, p.most) {
		if ctx.Err() != nil {
			return ended(ctx, last)
		}
		one, cancel := context.WithTimeout(ctx, p.each)
		err := t(one)
		cancel()
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[hopeless](err); ok {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if sleep(ctx, pause) != nil {
			return ended(ctx, last)
		}
	}
}

// ended joins why ctx ended with the reason of the last attempt.
func ended(ctx context.Context, last error) error {
	why := context.Cause(ctx)
	if last == nil || errors.Is(last, why) {
		return why
	}
	return fmt.Errorf("%w: the last attempt: %w", why, last)
}

// sleep returns after d, or with why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
