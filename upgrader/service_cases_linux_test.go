package upgrader

import (
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/ready"
)

// What an exclusive service writes has one writer, whoever asks for what: here
// a server dies and leaves a worker behind that still writes, and a swap does
// not wait for the retry.
func TestExclusiveNeverStartsBesideWhatIsLeft(t *testing.T) {
	c := testConfig(t, "stay")
	file := filepath.Join(filepath.Dir(c.StateDir), "memory")
	setPlan(t, c, "child=deaf:write="+file+":ready:stay stay")
	c.Strategy = Exclusive
	r := runService(t, c)
	r.event(EventReady, 1)
	setPlan(t, c, "write="+file+" ready stay")
	for range 2 {
		var w <-chan control.Verdict
		reply := make(chan control.Verdict, 1)
		if err := r.s.ask(t.Context(), func() {
			g := r.s.serving
			if err := g.main.Signal(syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			_ = g.main.Wait(t.Context()) // it is gone, and the loop has not heard of it
			g.status, g.ended = nil, true
			close(g.exited)
			r.s.died(g)
			r.s.askSwap("test", reply, nil)
		}); err != nil {
			t.Fatal(err)
		}
		w = reply
		r.verdict(w, control.Committed)
	}
	r.s.Stop()
	r.end()
}

// READY=1 is awaited of a program that is known to say it, not of one that
// is known to do without.
func TestRollbackToOneThatDoesNotNotify(t *testing.T) {
	c := testConfig(t, "accept stay")
	c.Ready = ready.Spec{Kind: ready.Auto}
	a, err := listener.ParseAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Listen = []listener.Address{a}
	r := runService(t, c)
	r.event(EventReady, 1)
	setPlan(t, c, "ready stay")
	r.verdict(r.swap(), control.Committed)
	r.kill(2)
	r.event(EventReady, 3)
	r.event(EventRolled, 2)
	r.s.Stop()
	r.end()
}

// An adopted server whose executable may not be looked at can die.
func TestRestartOfWhatIsNotKnown(t *testing.T) {
	for _, again := range []bool{true, false} {
		t.Run(fmt.Sprint(again), func(t *testing.T) {
			c := testConfig(t, serve)
			r := runService(t, c)
			r.event(EventReady, 1)
			if err := r.s.ask(t.Context(), func() { r.s.setCurrent(nil) }); err != nil {
				t.Fatal(err)
			}
			if !again {
				c.EnvFile = filepath.Join(t.TempDir(), "none")
				if err := r.s.ask(t.Context(), func() { r.s.config.EnvFile = c.EnvFile }); err != nil {
					t.Fatal(err)
				}
			}
			r.kill(1)
			if again {
				r.event(EventReady, 2)
			} else {
				r.event(EventGone, 2)
			}
			r.s.Stop()
			r.end()
		})
	}
}

func TestRevertToWhatIsNotKnown(t *testing.T) {
	c := testConfig(t, serve)
	r := runService(t, c)
	r.event(EventReady, 1)
	r.verdict(r.swap(), control.Committed)
	if err := r.s.ask(t.Context(), func() { r.s.setFallback(nil) }); err != nil {
		t.Fatal(err)
	}
	r.kill(2)
	r.event(EventFailed, 2)
	r.event(EventReady, 4) // what it is started from is known
	r.s.Stop()
	r.end()
}

// The end of the process that MAINPID= named counts, and that of the first one
// does not.
func TestMainPid(t *testing.T) {
	c := testConfig(t, "child=deaf:stay main ready exit=3")
	r := runService(t, c)
	r.event(EventReady, 1)
	var main process.Identity
	eventually(t, "the first process is gone, and another stands for it", func() bool {
		var first process.Identity
		if err := r.s.ask(t.Context(), func() { main = r.s.serving.main }); err != nil {
			t.Fatal(err)
		}
		first = r.first(1)
		return main != first && !first.Alive()
	})
	if got := r.state(); got != Serving {
		t.Fatalf("state %s", got)
	}
	setPlan(t, c, serve)
	if err := main.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e := r.event(EventDied, 1)
	if e.Pid != main.Pid {
		t.Errorf("pid %d died, want %d", e.Pid, main.Pid)
	}
	r.event(EventStarting, 2) // of the same plan
	r.s.Stop()
	r.end()
}

// The death of a daemon is a death, with a status, even if workers are left.
func TestDaemonDies(t *testing.T) {
	for policy, again := range map[Restart]bool{RestartAlways: true, RestartOnFailure: true, RestartNever: false} {
		t.Run(string(policy), func(t *testing.T) {
			c := testConfig(t, "stay")
			c.Restart = policy
			c.ForkingPidFile = filepath.Join(filepath.Dir(c.StateDir), "pid") // never written
			setPlan(t, c, "child=child=stay:ready:stay exit=0")
			r := runService(t, c)
			r.event(EventReady, 1)
			var main process.Identity
			eventually(t, "the daemon is followed", func() bool {
				if err := r.s.ask(t.Context(), func() { main = r.s.serving.main }); err != nil {
					t.Fatal(err)
				}
				return main != r.first(1)
			})
			if err := main.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if again {
				r.event(EventReady, 2)
				r.s.Kill() // its worker does not hear of a stop
			}
			exit := r.end()
			if want := map[bool]int{true: exit.Code, false: 128 + 9}[again]; exit.Code != want {
				t.Errorf("exit %s, want %s", strconv.Itoa(exit.Code), strconv.Itoa(want))
			}
		})
	}
}
