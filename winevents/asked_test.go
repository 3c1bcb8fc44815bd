package winevents

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// plan is how a server of ours stops and saves.
type plan struct {
	stop     time.Duration
	stubborn bool // its Stop does not look at the context
	failStop error
	failSave error
	times    Times
}

// goServer is a server of ours.
type goServer struct {
	plan
	asked   *Asked
	reloads atomic.Int32
	events  []string
	ended   error // of Run
}

func (g *goServer) config(p *proc, m *memory) AskedConfig {
	return AskedConfig{
		Times: g.times,
		Stop: func(ctx context.Context, s Signal) error {
			var over <-chan struct{}
			if !g.stubborn {
				over = ctx.Done()
			}
			select {
			case <-time.After(g.stop):
			case <-over:
				return ctx.Err()
			}
			return g.failStop
		},
		Save: func(_ context.Context, s Stopping) error {
			m.writers.Add(-1)
			if g.failSave == nil {
				m.savedBy.Store(int64(p.id.Pid))
			}
			return g.failSave
		},
		Reload:  func(context.Context) { g.reloads.Add(1) },
		Observe: func(e Event) { g.events = append(g.events, e.What) },
	}
}

// run serves until the process has ended.
func (g *goServer) run(p *proc, m *memory) {
	defer p.exit()
	var err error
	if g.asked, err = newAsked(p, g.config(p, m)); err != nil {
		p.t.Error(err)
		return
	}
	m.writers.Add(1)
	g.ended = g.asked.Run(context.Background())
	if err := g.asked.Close(); err != nil && !p.gone() {
		p.t.Error(err)
	}
	if n := p.open(); n != 0 {
		p.t.Errorf("the server leaks %d handles", n)
	}
}

// Both askers with our server.
func TestAskOurServer(t *testing.T) {
	broken := errors.New("disk full")
	tests := []struct {
		name       string
		server     plan
		between    time.Duration // the unmodified asker's delay
		want       Result
		marker     Marker
		unmodified int
		ended      error
		events     []string
		took       time.Duration
	}{
		{name: "good", server: plan{stop: 200 * time.Millisecond}, want: Confirmed, marker: MarkerSaved, took: 200 * time.Millisecond,
			events: []string{EventReceived, EventStopped, EventSaved, EventConfirmed, EventLingered}},
		{name: "stops at once, asker slow", between: 9 * time.Second, want: Confirmed, marker: MarkerSaved},
		{name: "too slow, but obedient", server: plan{stop: time.Hour}, want: Confirmed, marker: MarkerSaved,
			ended: context.DeadlineExceeded, took: 10 * time.Second},
		{name: "too slow and stubborn", server: plan{stop: 12 * time.Second, stubborn: true}, want: Confirmed, marker: MarkerSaved,
			ended: ErrServicesRunning, took: 10*time.Second + DefaultHold, events: []string{EventCut}},
		{name: "cannot save", server: plan{failSave: broken}, want: Exited, marker: MarkerUnsaved, unmodified: -1, ended: broken},
		{name: "stops badly", server: plan{failStop: broken}, want: Confirmed, marker: MarkerSaved, ended: broken},
		{name: "does not linger", server: plan{stop: 200 * time.Millisecond, times: Times{Linger: -1}}, want: Confirmed, marker: MarkerSaved,
			took: 200 * time.Millisecond},
	}
	for _, test := range tests {
		for _, unmodified := range []bool{false, true} {
			name := test.name
			if unmodified {
				name += ", unmodified asker"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := &goServer{plan: test.server}
					s := newScene(t, server.run)
					if unmodified {
						if got := docAsk(s.a, serverPid, test.between); got != test.unmodified {
							t.Errorf("asking returned %d, want %d", got, test.unmodified)
						}
					} else {
						answer, err := s.ask(t.Context(), AskConfig{Saved: s.memory.saved})
						if err != nil {
							t.Fatal(err)
						}
						if answer.Result != test.want || answer.Marker != test.marker || answer.Took != test.took {
							t.Errorf("answer %s, marker %q after %s", answer.Result, answer.Marker, answer.Took)
						}
						_ = answer.Close()
					}
					if w := s.memory.writers.Load(); w != 0 {
						t.Errorf("the successor starts beside %d writers", w)
					}
					<-s.done
					if !errors.Is(server.ended, test.ended) || test.ended == nil && server.ended != nil {
						t.Errorf("Run returned %v, want %v", server.ended, test.ended)
					}
					for _, what := range test.events {
						if !slices.Contains(server.events, what) {
							t.Errorf("observed %q", server.events)
						}
					}
					s.end()
				})
			})
		}
	}
}

// Nothing is lost between our server and either asker, whatever their speeds.
func TestAskOurServerSweep(t *testing.T) {
	for _, stop := range []time.Duration{0, 1, 40, 50, 60, 200} {
		for _, between := range []time.Duration{0, 15, 60, 500, 9000} {
			synctest.Test(t, func(t *testing.T) {
				server := &goServer{plan: plan{stop: stop * time.Millisecond}}
				s := newScene(t, server.run)
				if got := docAsk(s.a, serverPid, between*time.Millisecond); got != 0 || s.memory.writers.Load() != 0 {
					t.Errorf("stop %d, between %d: %d", stop, between, got)
				}
				<-s.done
				s.end()
			})
		}
	}
}

// Kill while a Stop is served is confirmed too: somebody waits.
func TestKillAfterStop(t *testing.T) {
	tests := []struct {
		name    string
		gap     time.Duration
		result  Result
		confirm bool
	}{
		{"while it stops", time.Second, Confirmed, true},
		{"after it is gone", 10 * time.Second, Nobody, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &goServer{plan: plan{stop: 3 * time.Second}}
				s := newScene(t, server.run)
				if err := send(t.Context(), s.a, s.target(), Stop, AskConfig{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(test.gap)
				answer, err := s.ask(t.Context(), AskConfig{Saved: s.memory.saved})
				if err != nil || answer.Result != test.result {
					t.Fatalf("answer %+v, error %v", answer, err)
				}
				_ = answer.Close()
				<-s.done
				if slices.Contains(server.events, EventConfirmed) != test.confirm || server.ended != nil {
					t.Errorf("observed %q, ended with %v", server.events, server.ended)
				}
				s.end()
			})
		})
	}
}

func TestSend(t *testing.T) {
	for _, session := range []int{1, 0} { // in 0 both names are one event
		for _, signal := range []Signal{Reload, Stop, Quit} {
			synctest.Test(t, func(t *testing.T) {
				server := &goServer{}
				s := newScene(t, func(p *proc, m *memory) {
					p.session = session
					server.run(p, m)
				})
				s.a.session = session
				if err := send(t.Context(), s.a, s.target(), signal, AskConfig{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if n := server.reloads.Load(); signal == Reload && n != 1 || signal != Reload && n != 0 {
					t.Errorf("%d reloads by %s", n, signal)
				}
				if gone := s.b.gone(); gone != (signal != Reload) {
					t.Errorf("gone after %s: %v", signal, gone)
				}
				if slices.Contains(server.events, EventConfirmed) {
					t.Errorf("%s was confirmed", signal)
				}
				s.end()
			})
		}
	}
}

func TestSendRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, docServer{}.run)
		if err := send(t.Context(), s.a, s.target(), Kill, AskConfig{}); err == nil {
			t.Error("sent Kill")
		}
		nobody := Target{Identity: Identity{Pid: 9996, Executable: serverExe}}
		if err := send(t.Context(), s.a, nobody, Stop, AskConfig{}); !errors.Is(err, ErrNoProcess) {
			t.Errorf("to nobody: %v", err)
		}
		stranger := Target{Identity: Identity{Pid: serverPid, Executable: "other.exe"}}
		if err := send(t.Context(), s.a, stranger, Stop, AskConfig{}); !errors.Is(err, ErrNotProved) {
			t.Errorf("to a stranger: %v", err)
		}
		s.end()
	})
}

// A server starts with clean events of its own, or not at all.
func TestNewAsked(t *testing.T) {
	tests := []struct {
		name  string
		other func(s *scene, p *proc)
		want  error
		stale bool
	}{
		{name: "alone"},
		{name: "stale Kill", stale: true, other: func(s *scene, p *proc) {
			e, _, _ := p.createEvent(Kill.Name(serverPid), nil)
			_ = e.Set()
		}},
		{name: "stale confirmation", stale: true, other: func(s *scene, p *proc) {
			e, _, _ := p.createEvent(`Global\`+KillSuccess.Name(serverPid), nil)
			_ = e.Set()
		}},
		{name: "another kind", want: ErrOtherKind, other: func(s *scene, p *proc) { own(s, p, Reload.Name(serverPid)) }},
		{name: "another user", want: fs.ErrPermission, other: func(s *scene, p *proc) {
			p.user = "S-1-5-21-2"
			_, _, _ = p.createEvent(Stop.Name(serverPid), nil)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &goServer{}
				s := newScene(t, func(*proc, *memory) {})
				third := s.machine.spawn(6000, `C:\third.exe`)
				if test.other != nil {
					test.other(s, third)
				}
				asked, err := newAsked(s.b, server.config(s.b, s.memory))
				if !errors.Is(err, test.want) || test.want == nil && err != nil {
					t.Fatalf("error %v, want %v", err, test.want)
				}
				if stale := slices.Contains(server.events, EventStale); stale != test.stale {
					t.Errorf("stale: %v", stale)
				}
				if err == nil {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if err := asked.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Run returned %v", err)
					}
					if err := errors.Join(asked.Close(), asked.Close()); err != nil {
						t.Error(err)
					}
				}
				if n := s.b.open(); n != 0 {
					t.Errorf("%d handles leak", n)
				}
				s.end()
				third.exit()
			})
		})
	}
}

func TestNewAskedNeedsStop(t *testing.T) {
	if _, err := newAsked(nil, AskedConfig{}); err == nil {
		t.Error("a server that cannot stop")
	}
}

// A crash in the middle of everything: the asker learns of it.
func TestOurServerCrashes(t *testing.T) {
	for _, at := range []time.Duration{100, 1000, 1500, 3500} {
		synctest.Test(t, func(t *testing.T) {
			server := &goServer{plan: plan{stop: time.Second}}
			s := newScene(t, server.run)
			time.AfterFunc(at*time.Millisecond, s.b.exit)
			answer, err := s.ask(t.Context(), AskConfig{Saved: s.memory.saved})
			if err != nil {
				t.Fatal(err)
			}
			want := Exited
			if at > 1000 {
				want = Confirmed
			}
			if answer.Result != want && at != 1000 { // at 1000 both may be
				t.Errorf("crash after %d ms: %s", at, answer.Result)
			}
			_ = answer.Close()
			<-s.done
			s.end()
		})
	}
}

// The context ends a stopping and a lingering.
func TestRunCancelled(t *testing.T) {
	for _, after := range []time.Duration{500 * time.Millisecond, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t, func(*proc, *memory) {})
			server := &goServer{plan: plan{stop: time.Second}}
			asked, err := newAsked(s.b, server.config(s.b, s.memory))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if answer, err := s.ask(t.Context(), AskConfig{}); err == nil {
					_ = answer.Close()
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			if err := asked.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Run returned %v", err)
			}
			if confirmed := slices.Contains(server.events, EventConfirmed); confirmed != (after > time.Second) {
				t.Errorf("observed %q", server.events)
			}
			_ = asked.Close()
			s.b.exit()
			synctest.Wait()
			s.end()
		})
	}
}
