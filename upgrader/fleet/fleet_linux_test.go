package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/ready"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
}

// patience is how long a test waits for a fact.
const patience = 30 * time.Second

// service is one that a shell runs and that is ready when it has touched $READY.
func service(t *testing.T, name, script string) upgrader.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ready")
	c := upgrader.Defaults()
	c.Environ = append(os.Environ(), "READY="+file)
	c.Name, c.Command = name, []string{"/bin/sh", "-c", script}
	c.Intercept, c.Probation, c.Settle = upgrader.InterceptOff, 0, 0
	c.Ready = ready.Spec{Kind: ready.Exec, Command: "test -e " + file}
	return c
}

// stays is a server that quits when it is told.
const stays = "touch $READY; trap 'exit 0' TERM; while :; do sleep 0.1; done"

// running is a fleet that runs.
type running struct {
	*Fleet
	up   chan []Ended
	exit chan upgrader.Exit
}

func run(t *testing.T, services ...upgrader.Config) *running {
	t.Helper()
	r := &running{up: make(chan []Ended, 1), exit: make(chan upgrader.Exit, 1)}
	began := make(chan *Fleet, 1)
	go func() {
		exit, err := Run(context.Background(), Config{Name: "test", StateDir: filepath.Join(t.TempDir(), "s"), Services: services, Up: func(failed []Ended) { r.up <- failed }},
			func(f *Fleet) { began <- f })
		if err != nil {
			t.Error(err)
			close(began)
		}
		r.exit <- exit
	}()
	if r.Fleet = receive(t, began); r.Fleet == nil {
		t.FailNow()
	}
	t.Cleanup(r.Kill)
	return r
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("it did not come")
		panic("not reached")
	}
}

// state gives the state of a service, and what it says.
func (r *running) state(t *testing.T, name string) (state, message string) {
	t.Helper()
	for _, s := range r.Services() {
		if s.Server == name {
			st, err := s.Handler.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return st.State, st.Message
		}
	}
	t.Fatal("there is no " + name)
	return "", ""
}

func (r *running) do(t *testing.T, name, do string) (control.Answer, error) {
	t.Helper()
	for _, s := range r.Services() {
		if s.Server == name {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return s.Handler.Do(ctx, control.Request{Do: do})
		}
	}
	t.Fatal("there is no " + name)
	return control.Answer{}, nil
}

// The end of one service is its own, and a restart starts it again.
func TestServicesAreTheirOwn(t *testing.T) {
	again := filepath.Join(t.TempDir(), "again")
	r := run(t, service(t, "a", stays), service(t, "b", stays), service(t, "bad", fmt.Sprintf("test -e %s || exit 7; ", again)+stays))
	failed := receive(t, r.up)
	if len(failed) != 1 || failed[0].Service != "bad" || failed[0].Exit.Code != 7 {
		t.Fatalf("failed: %+v", failed)
	}
	if state, message := r.state(t, "bad"); state != "stopped" || message == "" {
		t.Errorf("bad: %s, %q", state, message)
	}
	if state, _ := r.state(t, "a"); state != "serving" {
		t.Errorf("a: %s", state)
	}
	a, err := r.do(t, "bad", control.DoRestart)
	if err != nil || a.Verdict.Verdict != control.Failed || a.Verdict.Exit.Code != 7 {
		t.Errorf("a restart that fails: %+v, %v", a.Verdict, err)
	}
	if err := os.WriteFile(again, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err = r.do(t, "bad", control.DoRestart); err != nil || a.Verdict.Verdict != control.Committed || a.Verdict.To == 0 {
		t.Errorf("a restart that does not: %+v, %v", a.Verdict, err)
	}
	if _, err := r.do(t, "b", control.DoStop); err != nil {
		t.Error(err)
	}
	if _, err = r.do(t, "b", control.DoReload); err == nil {
		t.Error("one that has stopped was reloaded")
	}
	if err := r.Alive(t.Context()); err != nil {
		t.Error(err)
	}
	r.Stop()
	if exit := receive(t, r.exit); exit.Code != 0 || exit.Reason != nil {
		t.Errorf("%+v", exit)
	}
	if _, err := r.do(t, "a", control.DoRestart); err == nil {
		t.Error("a fleet that has ended started something")
	}
}

// When none runs any more, the fleet ends with what was wrong.
func TestEndsWithItsServices(t *testing.T) {
	r := run(t, service(t, "one", "exit 3"), service(t, "two", "exit 4"))
	if failed := receive(t, r.up); len(failed) != 2 {
		t.Errorf("failed: %+v", failed)
	}
	if exit := receive(t, r.exit); exit.Code != 3 || exit.Reason == nil {
		t.Errorf("%+v", exit)
	}
}

func TestRefuses(t *testing.T) {
	for _, services := range [][]upgrader.Config{nil, {service(t, "a", stays), service(t, "a", stays)}, {service(t, "a b", stays)}} {
		exit, err := Run(t.Context(), Config{StateDir: t.TempDir(), Services: services}, nil)
		if !errors.Is(err, upgrader.ErrUsage) || exit.Code != 100 {
			t.Errorf("%v: %+v, %v", services, exit, err)
		}
	}
}
