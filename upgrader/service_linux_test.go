package upgrader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/ready"
)

// patience is how long a fact may take on a machine that has other things to do.
const patience = 30 * time.Second

// running is a service under test, with all that it told.
type running struct {
	t     *testing.T
	s     *Service
	dir   string
	ended chan struct{}
	exit  Exit
	err   error

	mu     sync.Mutex
	events []Event
	pids   []process.Identity
	more   chan struct{} // closed at the next event
}

// testConfig is a service that waits for nothing but facts.
func testConfig(t *testing.T, plan string) Config {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "up") // a notify socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // the state is gone by then, or the test has failed
	c := Defaults()
	c.Command = []string{exe}
	c.StateDir = filepath.Join(dir, "s")
	c.EnvFile = filepath.Join(dir, "env")
	c.Intercept = InterceptOff
	c.Ready = ready.Spec{Kind: ready.Notify}
	c.ReadyTimeout, c.RetryInterval, c.Probation, c.StopTimeout = time.Hour, time.Hour, time.Hour, time.Hour
	c.RetryMax = 100
	c.Settle, c.SettleMax = 0, 0
	c.Stderr = StderrInherit
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = null.Close() })
	c.Stdin, c.Stdout, c.Stderrs = null, null, os.Stderr
	setPlan(t, c, plan)
	return c
}

// setPlan says what the next generation does.
func setPlan(t *testing.T, c Config, plan string) {
	t.Helper()
	if err := os.WriteFile(c.EnvFile, []byte(guestVariable+"="+plan+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runService runs it until the test ends.
func runService(t *testing.T, c Config) *running {
	t.Helper()
	r := &running{t: t, dir: filepath.Dir(c.StateDir), ended: make(chan struct{}), more: make(chan struct{})}
	c.Observe = r.observe
	opened := make(chan *Service, 1)
	go func() {
		defer close(r.ended)
		r.exit, r.err = Run(context.Background(), c, func(s *Service) { opened <- s })
	}()
	select {
	case r.s = <-opened:
	case <-r.ended:
		t.Fatalf("it does not open: %v", r.err)
	case <-time.After(patience):
		t.Fatal("it does not open")
	}
	t.Cleanup(r.cleanup)
	return r
}

func (r *running) observe(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.What == EventStarting || e.What == EventAdopted {
		if id, err := process.Of(e.Pid); err == nil {
			r.pids = append(r.pids, id)
		}
	}
	r.events = append(r.events, e)
	close(r.more)
	r.more = make(chan struct{})
}

// await waits until an event satisfies what, and gives it.
func (r *running) await(what string, f func(Event) bool) Event {
	r.t.Helper()
	late := time.After(patience)
	for {
		r.mu.Lock()
		i := slices.IndexFunc(r.events, f)
		var e Event
		if i >= 0 {
			e = r.events[i]
		}
		more := r.more
		r.mu.Unlock()
		if i >= 0 {
			return e
		}
		select {
		case <-more:
		case <-r.ended:
			r.t.Fatalf("%s: it has ended: %+v, %v\n%s", what, r.exit, r.err, r.told())
		case <-late:
			r.t.Fatalf("%s: not within %v\n%s", what, patience, r.told())
		}
	}
}

// event waits for one of generation g.
func (r *running) event(what string, g int) Event {
	r.t.Helper()
	return r.await(fmt.Sprintf("%s of generation %d", what, g), func(e Event) bool { return e.What == what && e.Generation == g })
}

// told is everything that it told.
func (r *running) told() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, e := range r.events {
		fmt.Fprintf(&b, "%s in %s: generation %d, pid %d %s %s\n", e.What, e.State, e.Generation, e.Pid, e.Message, e.Error)
	}
	return b.String()
}

// swap asks, and gives where the verdict will be.
func (r *running) swap() <-chan control.Verdict {
	r.t.Helper()
	return r.want(wanted{})
}

// canary asks for a swap that keeps each share for as long as the test may take.
func (r *running) canary(steps ...int) <-chan control.Verdict {
	r.t.Helper()
	return r.want(wanted{canary: &Canary{Steps: steps, Step: time.Hour}})
}

// rollback asks for what ran before.
func (r *running) rollback() <-chan control.Verdict {
	r.t.Helper()
	return r.want(wanted{back: true})
}

func (r *running) want(w wanted) <-chan control.Verdict {
	r.t.Helper()
	reply := make(chan control.Verdict, 1)
	w.asked, w.caller = "test", reply
	if !r.s.tell(func() { r.s.want(w) }) {
		r.t.Fatal("it has ended")
	}
	return reply
}

// verdict waits for it.
func (r *running) verdict(reply <-chan control.Verdict, want string) control.Verdict {
	r.t.Helper()
	select {
	case v := <-reply:
		if v.Verdict != want {
			r.t.Fatalf("verdict %q (%s), want %q\n%s", v.Verdict, v.Reason, want, r.told())
		}
		return v
	case <-time.After(patience):
		r.t.Fatalf("no verdict\n%s", r.told())
		return control.Verdict{}
	}
}

// state asks the loop.
func (r *running) state() State {
	r.t.Helper()
	var st State
	if err := r.s.ask(r.t.Context(), func() { st = r.s.state }); err != nil {
		r.t.Fatal(err)
	}
	return st
}

// first is the process that a generation was started as; none if it was gone at once.
func (r *running) first(g int) process.Identity {
	r.t.Helper()
	pid := r.event(EventStarting, g).Pid
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range slices.Backward(r.pids) {
		if id.Pid == pid {
			return id
		}
	}
	return process.Identity{}
}

// kill ends it.
func (r *running) kill(g int) {
	r.t.Helper()
	if err := r.first(g).Signal(syscall.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
		r.t.Fatal(err)
	}
}

// eventually waits until f holds. It asks again and again: for what no event tells.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// end waits until Run has returned, and no process is left.
func (r *running) end() Exit {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Fatalf("it does not end\n%s", r.told())
	}
	if r.err != nil {
		r.t.Fatal(r.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.pids {
		if id.Alive() {
			r.t.Errorf("pid %d is left", id.Pid)
		}
	}
	return r.exit
}

// cleanup ends what a failed test left.
func (r *running) cleanup() {
	select {
	case <-r.ended:
		return
	default:
	}
	if !r.t.Failed() {
		r.t.Error("the test left its service running")
	}
	r.s.Kill()
	r.mu.Lock()
	for _, id := range r.pids {
		_ = id.Signal(syscall.SIGKILL) // it may be gone
	}
	r.mu.Unlock()
	select {
	case <-r.ended:
	case <-time.After(5 * time.Second): // the test has failed already
		r.s.end()
	}
}
