package winevents

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// An asking that fails leaves a server that never noticed.
func TestAskRefuses(t *testing.T) {
	broken := errors.New("cannot map")
	tests := []struct {
		name   string
		before func(s *scene, third *proc)
		target func(s *scene) Target // nil: the server
		config AskConfig
		want   error
	}{
		{name: "no proof", target: func(s *scene) Target { return Target{Identity: Identity{Pid: serverPid}} }, want: ErrNotProved},
		{name: "another executable", target: func(s *scene) Target {
			return Target{Identity: Identity{Pid: serverPid, Executable: "notepad.exe"}}
		}, want: ErrNotProved},
		{name: "no id", target: func(s *scene) Target { return Target{} }, want: ErrNoProcess},
		{name: "cannot prepare", config: AskConfig{Prepare: func(Identity) error { return broken }}, want: broken},
		{name: "unknown policy", config: AskConfig{AtDeadline: "pray"}},
		{name: "itself", target: func(s *scene) Target { return Target{Identity: s.a.id} }},
		{name: "Kill is a mutex", before: func(s *scene, third *proc) { own(s, third, Kill.Name(serverPid)) }, want: ErrOtherKind},
		{name: "KillSuccess is a mutex", before: func(s *scene, third *proc) { own(s, third, KillSuccess.Name(serverPid)) }, want: ErrOtherKind},
		{name: "KillSuccess of all is a mutex", before: func(s *scene, third *proc) { own(s, third, `Global\`+KillSuccess.Name(serverPid)) }, want: ErrOtherKind},
		{name: "Kill belongs to another user", before: func(s *scene, third *proc) {
			third.user = "S-1-5-21-2"
			_, _, _ = third.createEvent(Kill.Name(serverPid), nil)
		}, want: fs.ErrPermission},
		{name: "another asker", before: func(s *scene, third *proc) { own(s, third, `Global\NFServer_KillLock_4240`) }, want: ErrBusy},
		{name: "another asker for a minute", before: func(s *scene, third *proc) { own(s, third, `Global\NFServer_KillLock_4240`) },
			config: AskConfig{LockWait: time.Minute}, want: ErrBusy},
		{name: "the lock is an event", before: func(s *scene, third *proc) {
			_, _, _ = third.createEvent(`Global\NFServer_KillLock_4240`, nil)
		}, want: ErrOtherKind},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, docServer{}.run)
				third := s.machine.spawn(6000, `C:\third.exe`)
				if test.before != nil {
					test.before(s, third)
				}
				target := s.target()
				if test.target != nil {
					target = test.target(s)
				}
				answer, err := ask(t.Context(), s.a, target, test.config)
				var failed *AskError
				if answer != nil || !errors.As(err, &failed) || failed.Signalled {
					t.Fatalf("answer %+v, error %v", answer, err)
				}
				if test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				time.Sleep(time.Minute)
				if s.memory.writers.Load() != 1 {
					t.Error("the server noticed")
				}
				s.end()
				third.exit()
			})
		})
	}
}

// own makes a mutex of that name.
func own(s *scene, p *proc, name string) {
	s.Helper()
	stop, _, _ := p.createEvent("", nil)
	if _, err := p.acquire(name, nil, 0, stop); err != nil {
		s.Fatal(err)
	}
}

// Whoever gives up before the server has looked takes the signal back.
func TestAskCancelled(t *testing.T) {
	tests := []struct {
		name      string
		first     time.Duration // when the server looks
		signalled bool
	}{
		{"unseen", 5 * time.Second, false},
		{"seen", 1500 * time.Millisecond, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// It never stops within the time, so that only its looking differs.
				s := newScene(t, docServer{first: test.first, stop: 10 * time.Second}.run)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				answer, err := s.ask(ctx, AskConfig{})
				var failed *AskError
				if !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) || answer != nil {
					t.Fatalf("answer %v, error %v", answer, err)
				}
				if failed.Signalled != test.signalled || failed.Pid != serverPid {
					t.Errorf("error %+v, want signalled %v", failed, test.signalled)
				}
				time.Sleep(time.Minute)
				if noticed := s.memory.writers.Load() == 0; noticed != test.signalled {
					t.Errorf("noticed: %v", noticed)
				}
				s.end()
			})
		})
	}
}

func TestAskCancelledBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, docServer{}.run)
		ctx, cancel := context.WithCancel(t.Context())
		answer, err := s.ask(ctx, AskConfig{Prepare: func(Identity) error { cancel(); return nil }})
		if answer != nil || !errors.Is(err, context.Canceled) {
			t.Fatalf("answer %v, error %v", answer, err)
		}
		time.Sleep(time.Minute)
		if s.memory.writers.Load() != 1 {
			t.Error("the server noticed")
		}
		if slices.Contains(s.events, EventSignalled) {
			t.Errorf("observed %q", s.events)
		}
		s.end()
	})
}

// Prepare comes with the process proved and nothing signalled, and what it maps
// outlives a server that crashes.
func TestAskPrepares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, docServer{mode: "silent"}.run)
		prepared := false
		answer, err := s.ask(t.Context(), AskConfig{Prepare: func(id Identity) error {
			prepared = id == s.b.id && !s.a.exists(Kill.Name(serverPid))
			return nil
		}})
		if err != nil || !prepared || answer.Result != Exited {
			t.Fatalf("prepared %v, answer %+v, error %v", prepared, answer, err)
		}
		_ = answer.Close()
		s.end()
	})
}
