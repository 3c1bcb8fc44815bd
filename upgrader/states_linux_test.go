package upgrader

import (
	"path/filepath"
	"testing"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/control"
)

// A place is a state with a service that stays in it until something happens.
type place struct {
	state    State
	strategy Strategy
	serving  int // the generation that serves or is asked to quit, 0: none
	starting int // the generation that is being started and does not get ready, or has a share only
	warm     int // the generation that is kept for a rollback, 0: none
	reach    func(t *testing.T, c Config, r *running) (swap <-chan control.Verdict)
	plan     string
	change   func(*Config) // nil: nothing
}

const serve = "ready stay"

var places = []place{
	{state: Starting, starting: 1, plan: "stay", reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventStarting, 1)
		return nil
	}},
	{state: Serving, serving: 1, plan: serve, reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventReady, 1)
		return nil
	}},
	{state: Swapping, serving: 1, starting: 2, plan: serve, reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventReady, 1)
		setPlan(t, c, "stay")
		w := r.swap()
		r.event(EventStarting, 2)
		return w
	}},
	{state: Probation, serving: 2, plan: serve, reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventReady, 1)
		w := r.swap()
		r.verdict(w, control.Committed)
		r.event(EventGone, 1)
		return nil
	}},
	{state: Sharing, serving: 1, starting: 2, plan: serve, change: listens, reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventReady, 1)
		w := r.canary(50)
		r.event(EventShared, 2)
		return w
	}},
	{state: Probation, serving: 2, warm: 1, plan: serve, change: func(c *Config) { c.Warm = true }, reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventReady, 1)
		w := r.swap()
		r.verdict(w, control.Committed)
		return nil
	}},
	{state: Leaving, strategy: Exclusive, serving: 1, plan: "deaf ready stay", reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventReady, 1)
		setPlan(t, c, serve)
		w := r.swap()
		r.event(EventLeaving, 1)
		return w
	}},
	{state: Replacing, strategy: Exclusive, starting: 2, plan: serve, reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventReady, 1)
		setPlan(t, c, "stay")
		w := r.swap()
		r.event(EventStarting, 2)
		return w
	}},
	{state: Reverting, strategy: Exclusive, starting: 3, plan: "once=DIR/once ready stay", reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventReady, 1)
		setPlan(t, c, "exit=3")
		w := r.swap()
		r.event(EventStarting, 3)
		return w
	}},
	{state: Down, plan: "once=DIR/once ready stay", reach: func(t *testing.T, c Config, r *running) <-chan control.Verdict {
		r.event(EventReady, 1)
		r.kill(1)
		r.event(EventStarting, 2)
		r.kill(2)
		r.event(EventGone, 2)
		return nil
	}},
}

// listens claims an address.
func listens(c *Config) {
	c.Listen = []listener.Address{{Network: "tcp", Host: "127.0.0.1", Spec: "127.0.0.1:0"}}
}

func everywhere(place) bool { return true }

// at runs do in every state that which takes, with the service in it.
func at(t *testing.T, which func(place) bool, do func(t *testing.T, p place, c Config, r *running, w <-chan control.Verdict)) {
	for _, p := range places {
		if !which(p) {
			continue
		}
		name := string(p.state)
		if p.warm > 0 {
			name += " warm"
		}
		t.Run(name, func(t *testing.T) {
			c := testConfig(t, "stay")
			plan := p.plan
			if i := len("once=DIR"); len(plan) > i && plan[:i] == "once=DIR" {
				plan = "once=" + filepath.Dir(c.StateDir) + plan[i:]
			}
			setPlan(t, c, plan)
			if p.strategy != "" {
				c.Strategy = p.strategy
			}
			if p.change != nil {
				p.change(&c)
			}
			r := runService(t, c)
			w := p.reach(t, c, r)
			if got := r.state(); got != p.state {
				t.Fatalf("state %s, want %s\n%s", got, p.state, r.told())
			}
			do(t, p, c, r, w)
		})
	}
}

func TestStopInEveryState(t *testing.T) {
	at(t, everywhere, func(t *testing.T, p place, c Config, r *running, w <-chan control.Verdict) {
		r.s.Stop()
		if p.state == Leaving {
			r.event(EventStopping, 0)
			r.kill(1) // it does not heed TERM
		}
		exit := r.end()
		if w != nil {
			r.verdict(w, control.Failed)
		}
		want := 0
		if p.state == Leaving {
			want = 128 + 9
		}
		if exit.Code != want || exit.Reason != nil {
			t.Errorf("exit %+v, want %d\n%s", exit, want, r.told())
		}
	})
}

func TestStopAtOnceInEveryState(t *testing.T) {
	at(t, everywhere, func(t *testing.T, p place, c Config, r *running, w <-chan control.Verdict) {
		r.s.Kill()
		r.end()
		if w != nil {
			r.verdict(w, control.Failed)
		}
	})
}

// A swap that is asked for in any state gets a verdict, and so does the one under way.
func TestSwapInEveryState(t *testing.T) {
	at(t, everywhere, func(t *testing.T, p place, c Config, r *running, w <-chan control.Verdict) {
		setPlan(t, c, serve)
		next := r.swap()
		first := r.state() // it was heard
		switch p.state {
		case Starting: // the first start fails: there is nothing to swap
			r.kill(1)
			r.verdict(next, control.Failed)
			if exit := r.end(); exit.Code != 128+9 || exit.Reason == nil {
				t.Errorf("exit %+v", exit)
			}
			return
		case Swapping, Sharing, Replacing:
			r.kill(p.starting)
			r.verdict(w, control.RolledBack)
		case Reverting:
			r.kill(p.starting)
			r.verdict(w, control.Failed)
		case Leaving:
			r.kill(p.serving)
			r.verdict(w, control.Committed)
		}
		v := r.verdict(next, control.Committed)
		r.event(EventReady, v.To)
		if got := r.state(); got != Probation && got != Serving {
			t.Errorf("state %s, was %s", got, first)
		}
		r.s.Stop()
		r.end()
	})
}

// Whoever dies, somebody serves again at the end.
func TestDeathOfTheServingInEveryState(t *testing.T) {
	at(t, func(p place) bool { return p.serving != 0 }, func(t *testing.T, p place, c Config, r *running, w <-chan control.Verdict) {
		setPlan(t, c, serve)
		r.kill(p.serving)
		switch p.state {
		case Serving:
			r.event(EventReady, 2)
		case Swapping: // its successor is being started
			r.event(EventDied, 1)
			r.kill(2)
			r.verdict(w, control.Failed)
			r.event(EventReady, 3)
		case Sharing: // its successor is ready
			if v := r.verdict(w, control.Committed); v.To != 2 {
				t.Errorf("%+v", v)
			}
			r.event(EventGone, 1)
		case Probation:
			r.event(EventRolled, 2)
			if p.warm == 0 {
				r.event(EventReady, 3)
				break
			}
			r.event(EventGone, 2)
			if got := r.state(); got != Serving {
				t.Errorf("state %s", got)
			}
		case Leaving:
			r.verdict(w, control.Committed)
		}
		r.s.Stop()
		r.end()
	})
}

func TestDeathOfTheStartingInEveryState(t *testing.T) {
	at(t, func(p place) bool { return p.starting != 0 }, func(t *testing.T, p place, c Config, r *running, w <-chan control.Verdict) {
		r.kill(p.starting)
		switch p.state {
		case Starting:
			if exit := r.end(); exit.Code != 128+9 || exit.Reason == nil {
				t.Errorf("exit %+v", exit)
			}
			return
		case Swapping, Sharing:
			if v := r.verdict(w, control.RolledBack); v.Exit == nil || v.Exit.Signal != "KILL" {
				t.Errorf("%+v", v)
			}
		case Replacing:
			r.verdict(w, control.RolledBack)
		case Reverting:
			r.verdict(w, control.Failed)
		}
		r.s.Stop()
		r.end()
	})
}
