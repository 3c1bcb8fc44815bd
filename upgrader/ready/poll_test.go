package ready

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// laneFunc is a lane that does what it is.
type laneFunc func(ctx context.Context) error

func (f laneFunc) Probe(ctx context.Context) error { return f(ctx) }

func TestAcceptIsAskedUntilItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		began := time.Now()
		lane := laneFunc(func(context.Context) error {
			if at = append(at, time.Since(began)); len(at) < 30 {
				return errors.New("not accepted")
			}
			return nil
		})
		if err := Run(t.Context(), Spec{Kind: Accept}, &Options{Lane: lane}); err != nil {
			t.Fatal(err)
		}
		if first := at[1] - at[0]; first != 10*time.Millisecond {
			t.Errorf("the first pause was %v", first)
		}
		for i := 2; i < len(at); i++ {
			this, before := at[i]-at[i-1], at[i-1]-at[i-2]
			if this < before || this > 250*time.Millisecond {
				t.Errorf("pause %d was %v after %v", i, this, before)
			}
		}
		if last := at[len(at)-1] - at[len(at)-2]; last != 250*time.Millisecond {
			t.Errorf("the longest pause was %v", last)
		}
	})
}

func TestTheEndOfTheContextEndsRun(t *testing.T) {
	why := errors.New("the server died")
	for name, lane := range map[string]laneFunc{
		"refused": func(context.Context) error { return errors.New("refused") },
		"hanging": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				began := time.Now()
				time.AfterFunc(time.Minute, func() { cancel(why) })
				err := Run(ctx, Spec{Kind: Accept}, &Options{Lane: lane})
				if !errors.Is(err, why) || time.Since(began) != time.Minute {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				if name == "refused" && !strings.Contains(err.Error(), "refused") {
					t.Errorf("the error does not tell what the last attempt met: %v", err)
				}
			})
		})
	}
}

func TestADeadlineIsToldAsSuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, spec := range []Spec{{Kind: Accept}, {Kind: Delay, Delay: time.Hour}} {
			lane := laneFunc(func(context.Context) error { return errors.New("no") })
			if err := Run(ctx, spec, &Options{Lane: lane}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", spec, err)
			}
		}
	})
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := Run(t.Context(), Spec{Kind: Delay, Delay: 3 * time.Second}, nil); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if err := Once(t.Context(), Spec{Kind: Delay, Delay: 3 * time.Second}, nil); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("once, after %v: %v", time.Since(began), err)
		}
	})
}

func TestAnAttemptHasItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		lane := laneFunc(func(ctx context.Context) error {
			if tries++; tries == 3 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if err := Run(t.Context(), Spec{Kind: Accept}, &Options{Lane: lane}); err != nil || tries != 3 {
			t.Errorf("after %d attempts: %v", tries, err)
		}
	})
}

func TestSomeKindsCannotBeAsked(t *testing.T) {
	for _, k := range []Kind{"", Auto, Notify, Listen} {
		if err := Run(t.Context(), Spec{Kind: k}, nil); !errors.Is(err, ErrTold) {
			t.Errorf("Run %q: %v", k, err)
		}
		if err := Once(t.Context(), Spec{Kind: k}, nil); !errors.Is(err, ErrTold) {
			t.Errorf("Once %q: %v", k, err)
		}
	}
	for _, spec := range []Spec{{Kind: Accept}, {Kind: "other"}} {
		if err := Run(t.Context(), spec, nil); err == nil || errors.Is(err, ErrTold) {
			t.Errorf("%q: %v", spec.Kind, err)
		}
	}
}

func TestHopelessEndsAtOnce(t *testing.T) {
	tries := 0
	err := poll(t.Context(), func(context.Context) error { tries++; return hopeless{errors.New("never")} }, pace{first: time.Hour, most: time.Hour, each: time.Hour})
	if tries != 1 || err == nil || err.Error() != "never" {
		t.Errorf("after %d attempts: %v", tries, err)
	}
}
