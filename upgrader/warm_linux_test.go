package upgrader

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/ready"
)

// phases are the names of those of v.
func phases(v control.Verdict) []string {
	var names []string
	for _, p := range v.Phases {
		names = append(names, p.Name)
	}
	return names
}

// lastVerdict is the newest one.
func (r *running) lastVerdict() control.Verdict {
	r.t.Helper()
	st, err := r.s.Status(r.t.Context())
	if err != nil || len(st.Verdicts) == 0 {
		r.t.Fatalf("no verdict: %v", err)
	}
	return st.Verdicts[len(st.Verdicts)-1]
}

// healthFile is a check that holds as long as a file is there.
func healthFile(t *testing.T, c *Config) (fail func()) {
	t.Helper()
	path := filepath.Join(filepath.Dir(c.StateDir), "healthy")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Health = &ready.Spec{Kind: ready.Exec, Command: "test -e " + path}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// The warm predecessor serves again without a start, whatever became of its
// successor, and the next swap is as any other.
func TestWarm(t *testing.T) {
	for name, fail := range map[string]func(t *testing.T, r *running, unhealthy func()){
		"dies":      func(_ *testing.T, r *running, _ func()) { r.kill(2) },
		"unhealthy": func(_ *testing.T, _ *running, unhealthy func()) { unhealthy() },
		"by hand": func(_ *testing.T, r *running, _ func()) {
			if v := r.verdict(r.rollback(), control.Committed); v.From != 2 || v.To != 1 {
				r.t.Errorf("%+v", v)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(t, serve)
			c.Warm = true
			listens(&c)
			unhealthy := healthFile(t, &c)
			r := runService(t, c)
			r.event(EventReady, 1)
			r.verdict(r.swap(), control.Committed)
			first := r.first(1)
			fail(t, r, unhealthy)
			r.event(EventRolled, 2)
			r.event(EventGone, 2)
			v := r.lastVerdict()
			if v.Verdict != control.RolledBack || v.Reason == "" || v.To != 2 || !slices.Contains(phases(v), "steer-back") {
				t.Errorf("%+v", v)
			}
			if got := r.state(); got != Serving || !first.Alive() {
				t.Errorf("state %s, the predecessor lives: %v", got, first.Alive())
			}
			c.Health = nil
			if name != "unhealthy" {
				r.verdict(r.swap(), control.Committed)
				r.event(EventReady, 3)
			}
			r.s.Stop()
			r.end()
		})
	}
}

// A warm predecessor goes at the end of probation; one that died before is
// started again when it is needed.
func TestWarmEnds(t *testing.T) {
	t.Run("probation", func(t *testing.T) {
		c := testConfig(t, serve)
		c.Warm, c.Probation = true, time.Second
		r := runService(t, c)
		r.event(EventReady, 1)
		r.verdict(r.swap(), control.Committed)
		r.event(EventProved, 2)
		r.event(EventGone, 1)
		r.s.Stop()
		r.end()
	})
	t.Run("another swap", func(t *testing.T) {
		c := testConfig(t, serve)
		c.Warm = true
		r := runService(t, c)
		r.event(EventReady, 1)
		r.verdict(r.swap(), control.Committed)
		r.verdict(r.swap(), control.Committed)
		r.event(EventGone, 1)
		r.kill(3)
		r.event(EventRolled, 3)
		if first := r.first(2); !first.Alive() {
			t.Error("generation 2 was not kept")
		}
		r.s.Stop()
		r.end()
	})
	t.Run("death", func(t *testing.T) {
		c := testConfig(t, serve)
		c.Warm = true
		r := runService(t, c)
		r.event(EventReady, 1)
		r.verdict(r.swap(), control.Committed)
		r.kill(1)
		r.event(EventGone, 1)
		r.kill(2)
		r.event(EventRolled, 2)
		r.event(EventReady, 3)
		r.s.Stop()
		r.end()
	})
}

// A canary that fails leaves its predecessor serving; one that does not is
// committed at the end of its steps.
func TestCanary(t *testing.T) {
	for name, fail := range map[string]func(r *running, unhealthy func()){
		"dies":      func(r *running, _ func()) { r.kill(2) },
		"unhealthy": func(_ *running, unhealthy func()) { unhealthy() },
		"by hand":   func(r *running, _ func()) { r.verdict(r.rollback(), control.Committed) },
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(t, serve)
			listens(&c)
			unhealthy := healthFile(t, &c)
			r := runService(t, c)
			r.event(EventReady, 1)
			w := r.canary(10, 100)
			r.event(EventShared, 2)
			fail(r, unhealthy)
			v := r.verdict(w, control.RolledBack)
			if v.Reason == "" || v.From != 1 || v.To != 2 || !slices.Contains(phases(v), "canary") {
				t.Errorf("%+v", v)
			}
			r.event(EventGone, 2)
			if got := r.state(); got != Serving {
				t.Errorf("state %s", got)
			}
			r.s.Stop()
			r.end()
		})
	}
	t.Run("goes through", func(t *testing.T) {
		c := testConfig(t, serve)
		listens(&c)
		c.Canary = Canary{Steps: []int{5, 25, 100}, Step: time.Millisecond}
		r := runService(t, c)
		r.event(EventReady, 1)
		v := r.verdict(r.swap(), control.Committed)
		if got, want := phases(v), []string{"prepare", "start", "canary", "canary"}; !slices.Equal(got, want) {
			t.Errorf("phases %v, want %v", got, want)
		}
		r.event(EventGone, 1)
		r.s.Stop()
		r.end()
	})
	t.Run("nothing to share", func(t *testing.T) {
		c := testConfig(t, serve)
		r := runService(t, c)
		r.event(EventReady, 1)
		r.verdict(r.canary(5), control.RolledBack)
		r.event(EventGone, 2)
		r.s.Stop()
		r.end()
	})
}

// Who waits for the end of probation is told what it brought.
func TestProofOfProbation(t *testing.T) {
	for _, warm := range []bool{false, true} {
		c := testConfig(t, serve)
		c.Warm = warm
		r := runService(t, c)
		r.event(EventReady, 1)
		proof := make(chan control.Verdict, 1)
		if !r.s.tell(func() { r.s.want(wanted{asked: "test", proof: proof}) }) {
			t.Fatal("it has ended")
		}
		r.event(EventCommitted, 2)
		select {
		case v := <-proof:
			t.Errorf("told before the end: %+v", v)
		default:
		}
		r.kill(2)
		r.verdict(proof, control.RolledBack)
		r.event(EventGone, 2)
		r.s.Stop()
		r.end()
	}
}

// A crash has a verdict as a swap has, with what it was.
func TestVerdictOfACrash(t *testing.T) {
	c := testConfig(t, serve)
	r := runService(t, c)
	r.event(EventReady, 1)
	r.kill(1)
	r.event(EventReady, 2)
	eventually(t, "the verdict", func() bool {
		st, err := r.s.Status(t.Context())
		return err == nil && len(st.Verdicts) == 1
	})
	v := r.lastVerdict()
	if v.Verdict != control.Committed || v.Asked != control.AskedCrash || v.From != 1 || v.To != 2 || v.Exit == nil || v.Exit.Signal != "KILL" || v.Reason == "" {
		t.Errorf("%+v", v)
	}
	r.s.Stop()
	r.end()
}

// The last verdicts are kept, no more.
func TestVerdictsKept(t *testing.T) {
	s := &Service{}
	for n := range verdictsKept + 10 {
		s.record(control.Verdict{Swap: n + 1, Verdict: control.Failed}, false)
	}
	if n := len(s.verdicts); n != verdictsKept || s.verdicts[0].Swap != 11 || s.verdicts[n-1].Swap != verdictsKept+10 || s.counters.Failed != verdictsKept+10 {
		t.Errorf("%d verdicts from %d on, %+v", n, s.verdicts[0].Swap, s.counters)
	}
}
