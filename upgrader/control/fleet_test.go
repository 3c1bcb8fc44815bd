package control

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
)

// fleetOf runs a server for services that are called so; who was asked to do
// what is told by asked.
func fleetOf(t *testing.T, verdicts map[string]string) (r *running, asked func() string) {
	t.Helper()
	var mu sync.Mutex
	var done []string
	services := func() (all []Service) {
		for _, name := range []string{"api", "bad", "web"} {
			f := newFake()
			f.status = Status{Name: name}
			f.do = func(_ context.Context, q Request) (Answer, error) {
				mu.Lock()
				defer mu.Unlock()
				done = append(done, q.Do+" "+name)
				if verdicts[name] == "" {
					return Answer{}, errors.New("oh")
				}
				return Answer{Verdict: &Verdict{Verdict: verdicts[name]}}, nil
			}
			all = append(all, Service{Server: name, ID: "id-" + name, Handler: f})
		}
		return all
	}
	dir := t.TempDir()
	s, err := ListenFor(dir, services)
	if err != nil {
		t.Fatal(err)
	}
	return runServer(t, s, dir), func() string {
		mu.Lock()
		defer mu.Unlock()
		all := strings.Join(done, ", ")
		done = nil
		return all
	}
}

func TestFleet(t *testing.T) {
	r, asked := fleetOf(t, map[string]string{"api": Committed, "web": RolledBack})
	c := r.dial(t)
	ctx := t.Context()

	all, fleet, err := c.Each(ctx, Request{Do: DoStatus})
	if err != nil || !fleet || len(all) != 3 || all[1].Server != "bad" || all[2].Status == nil || all[2].Status.Name != "web" {
		t.Fatalf("status: %+v, %v", all, err)
	}
	if _, err := c.Restart(ctx, RestartOptions{}); err == nil || !strings.Contains(err.Error(), "--all: api, bad, web") || asked() != "" {
		t.Errorf("a restart of nobody in particular: %v", err)
	}
	v, err := c.For("id-web").Restart(ctx, RestartOptions{})
	if got := asked(); err != nil || v.Verdict != RolledBack || got != "restart web" {
		t.Errorf("by ID: %+v, %v, %s", v, err, got)
	}
	all, _, err = c.For("web", "id-web", "api").Each(ctx, Request{Do: DoRestart})
	if got := asked(); err != nil || got != "restart api, restart web" || all[0].Verdict.Verdict != Committed {
		t.Errorf("by both: %+v, %v, %s", all, err, got)
	}
	all, _, err = c.All().Each(ctx, Request{Do: DoRestart})
	if got := asked(); err != nil || got != "restart api, restart bad, restart web" || all[1].Error == nil || all[1].Error.Message != "oh" {
		t.Errorf("all: %+v, %v, %s", all, err, got)
	}
	_, err = c.For("web", "none").Restart(ctx, RestartOptions{})
	is(t, err, CodeUnknown)
	if got := asked(); got != "" {
		t.Errorf("beside one that is not there: %s", got)
	}
	if err := c.Stop(ctx, false); err != nil || strings.Count(asked(), "stop") != 3 {
		t.Errorf("stop: %v", err)
	}
	_, err = c.For("bad").Restart(ctx, RestartOptions{})
	is(t, err, CodeFailed)
}

// A single service is found by its name too, and no other is.
func TestNamedWhereThereIsOne(t *testing.T) {
	f := newFake()
	f.status = Status{Name: "web", ID: "7"}
	c := serve(t, f).dial(t)
	for _, name := range []string{"web", "7"} {
		if all, fleet, err := c.For(name).Each(t.Context(), Request{Do: DoStatus}); err != nil || fleet || all[0].Server != "web" {
			t.Errorf("%s: %+v, %v, %v", name, all, fleet, err)
		}
	}
	_, err := c.For("api").Status(t.Context())
	is(t, err, CodeUnknown)
}

func TestFleetEvents(t *testing.T) {
	one, two := newFake(), newFake()
	dir := t.TempDir()
	s, err := ListenFor(dir, func() []Service { return []Service{{Server: "a", Handler: one}, {Server: "b", Handler: two}} })
	if err != nil {
		t.Fatal(err)
	}
	c := runServer(t, s, dir).dial(t)
	got := make(chan Event, 2)
	done := make(chan error, 1)
	go func() { done <- c.Events(t.Context(), func(e Event) error { got <- e; return nil }) }()
	receive(t, "a subscription", one.began)
	receive(t, "a subscription", two.began)
	two.events <- Event{What: "ready"}
	if e := receive(t, "an event", got); e.Service != "b" || e.What != "ready" {
		t.Errorf("%+v", e)
	}
	close(one.events)
	close(two.events)
	if err := receive(t, "the end", done); err != nil {
		t.Error(err)
	}
}
