package winevents

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Events that strangers left or set.
func TestAskStrangers(t *testing.T) {
	confirm := KillSuccess.Name(serverPid)
	tests := []struct {
		name     string
		stranger func(p *proc)
		server   docServer
		unmarked bool
		want     Result
		after    time.Duration
		event    string
		doubts   int // at most; 0: none
	}{
		{name: "stale confirmation", unmarked: true, want: Confirmed, after: time.Second, event: EventStale,
			stranger: func(p *proc) { e, _, _ := p.createEvent(confirm, nil); _ = e.Set() }},
		{name: "stale confirmation of all", unmarked: true, want: Confirmed, after: time.Second, event: EventStale,
			stranger: func(p *proc) { e, _, _ := p.createEvent(`Global\`+confirm, nil); _ = e.Set() }},
		{name: "stale confirmation that stays", unmarked: true, want: Confirmed, after: time.Second, event: EventStale,
			stranger: func(p *proc) { _ = p.createManual(confirm).Set() }},
		{name: "false confirmation", want: Confirmed, after: time.Second, event: EventDoubted, doubts: 1,
			stranger: func(p *proc) {
				e, _, _ := p.createEvent(confirm, nil)
				time.AfterFunc(1500*time.Millisecond, func() { _ = e.Set() })
			}},
		{name: "false confirmation that stays", want: Confirmed, after: time.Second, event: EventDoubted, doubts: 1,
			stranger: func(p *proc) {
				e := p.createManual(confirm)
				time.AfterFunc(1500*time.Millisecond, func() { _ = e.Set() })
			}},
		{name: "confirmations all the time", want: Confirmed, after: time.Second, event: EventDoubted, doubts: 110,
			stranger: func(p *proc) {
				e, _, _ := p.createEvent(confirm, nil)
				go func() {
					for e.Set() == nil {
						time.Sleep(time.Millisecond)
					}
				}()
			}},
		{name: "false confirmation, and the death", server: docServer{mode: "silent"}, want: Exited, event: EventExited, doubts: 5,
			stranger: func(p *proc) {
				e := p.createManual(confirm)
				go func() {
					for e.Set() == nil {
						time.Sleep(time.Millisecond)
					}
				}()
			}},
		{name: "Kill that does not reset itself", unmarked: true, want: Confirmed, after: time.Second,
			stranger: func(p *proc) { p.createManual(Kill.Name(serverPid)) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.server.stop = time.Second
				test.server.first = 2 * time.Second
				s := newScene(t, test.server.run)
				stranger := s.machine.spawn(7000, `C:\stranger.exe`)
				test.stranger(stranger)
				time.Sleep(time.Second)
				synctest.Wait()
				c := AskConfig{}
				if !test.unmarked {
					c.Saved = s.memory.saved
				}
				answer, err := s.ask(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				if w := s.memory.writers.Load(); answer.Result != test.want || w != 0 || answer.Took < test.after {
					t.Errorf("answer %s after %s beside %d writers", answer.Result, answer.Took, w)
				}
				if test.event != "" && !slices.Contains(s.events, test.event) {
					t.Errorf("observed %q", s.events)
				}
				doubts := 0
				for _, what := range s.events {
					if what == EventDoubted {
						doubts++
					}
				}
				if doubts > test.doubts {
					t.Errorf("busy with %d false confirmations", doubts)
				}
				_ = answer.Close()
				stranger.exit()
				s.end()
			})
		})
	}
}

// Of two askers that start together one asks; the other is refused, or waits and
// then finds what the first has written.
func TestTwoAskers(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Minute} {
		t.Run(wait.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, docServer{stop: time.Second}.run)
				path := filepath.Join(t.TempDir(), "server.pid")
				if err := WritePidFile(path, s.b.id); err != nil {
					t.Fatal(err)
				}
				type result struct {
					answer *Answer
					err    error
				}
				started := 0
				results := make(chan result)
				askers := []*proc{s.machine.spawn(8000, `C:\1.exe`), s.machine.spawn(8004, `C:\2.exe`)}
				for _, p := range askers {
					go func() {
						answer, err := ask(t.Context(), p, Target{PidFile: path}, AskConfig{Saved: s.memory.saved, LockWait: wait})
						if err == nil && answer.Result != Nobody && answer.Identity.Pid == serverPid {
							time.Sleep(100 * time.Millisecond) // it starts
							if err := WritePidFile(path, p.id); err != nil {
								t.Error(err)
							}
							if err := answer.Close(); err != nil {
								t.Error(err)
							}
							go docServer{}.run(p, s.memory)
						}
						results <- result{answer, err}
					}()
				}
				for range askers {
					r := <-results
					switch {
					case r.err == nil && r.answer.Identity.Pid == serverPid:
						started++
					case wait == 0 && !errors.Is(r.err, ErrBusy):
						t.Errorf("the second: %+v, %v", r.answer, r.err)
					case wait > 0 && (r.err != nil || r.answer.Result != Confirmed || r.answer.Identity.Pid < 8000):
						t.Errorf("the second: %+v, %v", r.answer, r.err)
					case wait > 0:
						_ = r.answer.Close()
					}
				}
				if started != 1 {
					t.Errorf("%d successors of one server", started)
				}
				<-s.done
				for _, p := range askers {
					p.exit()
				}
				time.Sleep(time.Minute) // for what has died to notice
			})
		})
	}
}

// An asker that dies frees the lock.
func TestAskerDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, docServer{mode: "deaf"}.run)
		first := s.machine.spawn(8000, `C:\1.exe`)
		ended := make(chan error)
		go func() {
			_, err := ask(t.Context(), first, s.target(), AskConfig{})
			ended <- err
		}()
		time.Sleep(time.Second)
		if _, err := s.ask(t.Context(), AskConfig{}); !errors.Is(err, ErrBusy) {
			t.Errorf("beside another asker: %v", err)
		}
		first.exit()
		if err := <-ended; !errors.Is(err, errDead) {
			t.Error(err)
		}
		answer, err := s.ask(t.Context(), AskConfig{AtDeadline: DeadlineKill})
		if err != nil || answer.Result != Terminated {
			t.Fatalf("answer %+v, error %v", answer, err)
		}
		_ = answer.Close()
		s.end()
	})
}

// An unmodified asker knows no lock. When it takes the confirmation away and
// starts, ours must not start too.
func TestUnmodifiedAskerWasFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, docServer{stop: time.Second, mode: "mute"}.run) // nothing is left of its confirmation
		path := filepath.Join(t.TempDir(), "server.pid")
		if err := WritePidFile(path, s.b.id); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(500*time.Millisecond, func() {
			if err := os.WriteFile(path, []byte("8000"), 0o600); err != nil {
				t.Error(err)
			}
		})
		answer, err := ask(t.Context(), s.a, Target{PidFile: path}, AskConfig{Saved: s.memory.saved})
		var failed *AskError
		if answer != nil || !errors.Is(err, ErrSuperseded) || !errors.As(err, &failed) || !failed.Signalled {
			t.Errorf("answer %+v, error %v", answer, err)
		}
		s.end()
	})
}

// Servers and askers in different sessions, of different users.
func TestNamespaces(t *testing.T) {
	tests := []struct {
		name            string
		server, asker   int // sessions
		users           bool
		namespaces      []Namespace
		serves, started bool
	}{
		{name: "one session", server: 1, asker: 1, started: true},
		{name: "service and its own asker", server: 0, asker: 0, started: true},
		{name: "service and a session's asker", server: 0, asker: 2, started: true},
		{name: "two users", server: 1, asker: 1, users: true, started: true},
		{name: "service of another user", server: 0, asker: 1, users: true, started: true},
		{name: "bare names only, as the documents", server: 0, asker: 2, namespaces: []Namespace{Local}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				b, a := m.spawn(serverPid, serverExe), m.spawn(askerPid, `C:\new.exe`)
				b.session, a.session = test.server, test.asker
				if test.users {
					b.user = "S-1-5-21-2"
				}
				memory := &memory{}
				done := make(chan struct{})
				go func() {
					defer close(done)
					docServer{stop: time.Second}.run(b, memory)
				}()
				answer, err := ask(t.Context(), a, Target{Identity: b.id},
					AskConfig{Saved: memory.saved, Namespaces: test.namespaces, AtDeadline: DeadlineProceed})
				if err != nil {
					t.Fatal(err)
				}
				if started := answer.Result == Confirmed; started != test.started {
					t.Errorf("answer %s", answer.Result)
				}
				_ = answer.Close()
				if n := a.open(); n != 0 {
					t.Errorf("%d handles leak", n)
				}
				b.exit()
				<-done
			})
		})
	}
}
