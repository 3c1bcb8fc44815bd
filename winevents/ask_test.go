package winevents

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

const (
	serverExe = `C:\srv\server.exe`
	serverPid = 4240
	askerPid  = 5000
)

// scene is one asking of a simulated server, with everything to look at after.
type scene struct {
	*testing.T
	*machine
	memory *memory
	b, a   *proc
	done   chan struct{} // the server's run has returned
	events []string      // what the asker observed
}

// newScene starts an asker and a server that serves by run, and lets a second go by.
func newScene(t *testing.T, run func(*proc, *memory)) *scene {
	m := newMachine(t)
	s := &scene{T: t, machine: m, memory: &memory{}, done: make(chan struct{})}
	s.b = m.spawn(serverPid, serverExe)
	s.a = m.spawn(askerPid, `C:\srv\new.exe`)
	go func() {
		defer close(s.done)
		run(s.b, s.memory)
	}()
	time.Sleep(time.Second)
	synctest.Wait()
	return s
}

func (s *scene) target() Target { return Target{Identity: s.b.id} }

// ask asks as process A.
func (s *scene) ask(ctx context.Context, c AskConfig) (*Answer, error) {
	c.Observe = func(e Event) { s.events = append(s.events, e.What) }
	return ask(ctx, s.a, s.target(), c)
}

// end ends the server and checks that A holds nothing any more.
func (s *scene) end() {
	s.Helper()
	s.b.exit()
	<-s.done
	time.Sleep(time.Second) // whoever else died notices
	if n := s.a.open(); n != 0 {
		s.Errorf("the asker leaks %d handles", n)
	}
}

func TestAskUnmodifiedServer(t *testing.T) {
	type want struct {
		result  Result
		marker  Marker
		late    bool
		after   time.Duration // since Kill; not before, and at most a few polls later
		writers int32
		events  []string // some of those that were observed
	}
	s15 := DefaultConfirm
	tests := []struct {
		name     string
		server   docServer
		config   AskConfig
		unmarked bool // the asker knows no marker
		want     want
	}{
		{name: "good", server: docServer{stop: 200 * time.Millisecond},
			want: want{result: Confirmed, marker: MarkerSaved, after: 200 * time.Millisecond}},
		{name: "stops at once", server: docServer{},
			want: want{result: Confirmed, marker: MarkerSaved}},
		{name: "stops slowly", server: docServer{stop: 9 * time.Second},
			want: want{result: Confirmed, marker: MarkerSaved, after: 9 * time.Second}},
		{name: "cut at its limit", server: docServer{stop: 14 * time.Second},
			want: want{result: Confirmed, marker: MarkerSaved, after: 10 * time.Second}},
		{name: "no marker known", server: docServer{unmarked: true}, unmarked: true,
			want: want{result: Confirmed}},
		{name: "looks rarely", server: docServer{poll: 300 * time.Millisecond, first: 123 * time.Millisecond},
			want: want{result: Confirmed, marker: MarkerSaved, after: 0}},
		{name: "stalls for longer than the documents hold Kill", server: docServer{first: 6 * time.Second},
			want: want{result: Confirmed, marker: MarkerSaved, after: 5 * time.Second}},
		{name: "dies silently", server: docServer{mode: "silent"},
			want: want{result: Exited, marker: MarkerUnsaved, events: []string{EventExited}}},
		{name: "saves and exits without a word", server: docServer{mode: "mute", stop: time.Second},
			want: want{result: Exited, marker: MarkerSaved, after: time.Second}},
		{name: "confirms and crashes", server: docServer{mode: "crash"},
			want: want{result: Confirmed, marker: MarkerSaved}},
		{name: "does not linger", server: docServer{linger: -1},
			want: want{result: Confirmed, marker: MarkerSaved}},
		{name: "confirms another process's death", server: docServer{mode: "wrong"},
			want: want{result: Exited, marker: MarkerSaved, after: 10*time.Second + DefaultHold}},
		{name: "marker missing", server: docServer{unmarked: true},
			want: want{result: Exited, marker: MarkerUnsaved, after: 10*time.Second + DefaultHold, events: []string{EventDoubted}}},
		{name: "marker after the confirmation", server: docServer{late: true},
			want: want{result: Confirmed, marker: MarkerSaved, after: DefaultHold, events: []string{EventDoubted}}},

		{name: "late, refuse", server: docServer{stop: 5 * time.Second, confirm: 11 * time.Second},
			want: want{result: Confirmed, marker: MarkerSaved, late: true, after: 16 * time.Second, events: []string{EventDeadline}}},
		{name: "stalls past the deadline, refuse", server: docServer{first: 21 * time.Second},
			want: want{result: Confirmed, marker: MarkerSaved, late: true, after: 20 * time.Second, events: []string{EventUnnoticed}}},
		{name: "late and mute, refuse", server: docServer{mode: "mute", confirm: 40 * time.Second},
			want: want{result: Exited, marker: MarkerSaved, late: true, after: 40 * time.Second, events: []string{EventDeadline}}},
		{name: "late, longer patience", server: docServer{confirm: 16 * time.Second}, config: AskConfig{Times: Times{Confirm: 30 * time.Second}},
			want: want{result: Confirmed, marker: MarkerSaved, after: 16 * time.Second}},
		{name: "deaf, proceed", server: docServer{mode: "deaf"}, config: AskConfig{AtDeadline: DeadlineProceed},
			want: want{result: Proceeded, marker: MarkerUnsaved, late: true, after: s15, writers: 1, events: []string{EventDeadline, EventUnnoticed}}},
		{name: "late, proceed", server: docServer{confirm: 20 * time.Second}, config: AskConfig{AtDeadline: DeadlineProceed},
			want: want{result: Proceeded, marker: MarkerSaved, late: true, after: s15}},
		{name: "deaf, kill", server: docServer{mode: "deaf"}, config: AskConfig{AtDeadline: DeadlineKill},
			want: want{result: Terminated, marker: MarkerUnsaved, late: true, after: s15, writers: 1, events: []string{EventTerminated}}},
		{name: "no patience at all, kill", server: docServer{stop: time.Second}, config: AskConfig{AtDeadline: DeadlineKill, Times: Times{Confirm: -1}},
			want: want{result: Terminated, marker: MarkerUnsaved, late: true, writers: 1}},
		{name: "one name space", server: docServer{}, config: AskConfig{Namespaces: []Namespace{Local}},
			want: want{result: Confirmed, marker: MarkerSaved}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, test.server.run)
				c := test.config
				if !test.unmarked {
					c.Saved = s.memory.saved
				}
				answer, err := s.ask(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				// The fake ends a process without its code noticing at once.
				if w := s.memory.writers.Load(); w != test.want.writers {
					t.Errorf("the successor starts beside %d writers, want %d", w, test.want.writers)
				}
				if answer.Result != test.want.result || answer.Marker != test.want.marker || answer.Late != test.want.late {
					t.Errorf("answer %s, marker %q, late %v; want %s, %q, %v", answer.Result, answer.Marker, answer.Late,
						test.want.result, test.want.marker, test.want.late)
				}
				if poll := max(DefaultPoll, test.server.poll); answer.Took < test.want.after || answer.Took > test.want.after+3*poll {
					t.Errorf("took %s, want %s", answer.Took, test.want.after)
				}
				for _, what := range test.want.events {
					if !slices.Contains(s.events, what) {
						t.Errorf("observed %q, want %s among them", s.events, what)
					}
				}
				if err := answer.Close(); err != nil {
					t.Error(err)
				}
				s.end()
			})
		})
	}
}

// The fake kernel must lose what the documents' asker loses on a real one, or
// the tests here would prove nothing.
func TestUnmodifiedAskerLoses(t *testing.T) {
	tests := []struct {
		name    string
		server  docServer
		between time.Duration
		want    int
		served  bool // the server has seen Kill
	}{
		{name: "nothing, when the server stops slowly", server: docServer{stop: 200 * time.Millisecond}, want: 0, served: true},
		{name: "the confirmation of a quick server", server: docServer{}, between: 70 * time.Millisecond, want: -1, served: true},
		{name: "Kill, when the server looks rarely", server: docServer{poll: 300 * time.Millisecond}, want: -1},
		{name: "the death", server: docServer{mode: "silent"}, want: -1, served: true},
		{name: "a late confirmation", server: docServer{confirm: 16 * time.Second}, want: -1, served: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, test.server.run)
				time.Sleep(time.Millisecond)
				if got := docAsk(s.a, serverPid, test.between); got != test.want {
					t.Errorf("asking returned %d, want %d", got, test.want)
				}
				if served := s.memory.writers.Load() == 0; served != test.served {
					t.Errorf("the server has seen Kill: %v, want %v", served, test.served)
				}
				s.end()
			})
		})
	}
}

// Our asker loses nothing, whatever the server's phase and speed and however
// slow the asker is before it looks.
func TestAskSweep(t *testing.T) {
	for _, first := range []time.Duration{0, 1, 5, 9, 49, 50, 51, 99} {
		for _, stop := range []time.Duration{0, 1, 5, 40, 50, 60, 200} {
			for _, stall := range []time.Duration{0, 15, 60, 500} {
				synctest.Test(t, func(t *testing.T) {
					server := docServer{poll: 10 * time.Millisecond, first: time.Second + first*time.Millisecond, stop: stop * time.Millisecond}
					s := newScene(t, server.run)
					answer, err := ask(t.Context(), s.a, s.target(), AskConfig{Saved: s.memory.saved, Observe: func(e Event) {
						if e.What == EventSignalled { // between the two name spaces and before the wait
							time.Sleep(stall * time.Millisecond)
						}
					}})
					if err != nil {
						t.Fatal(err)
					}
					if answer.Result != Confirmed || answer.Late || s.memory.writers.Load() != 0 {
						t.Errorf("first %d, stop %d, stall %d: %s", first, stop, stall, answer.Result)
					}
					_ = answer.Close()
					s.end()
				})
			}
		}
	}
}

func TestAskFindsNobody(t *testing.T) {
	tests := []struct {
		name   string
		target func(s *scene) Target
	}{
		{"no such process", func(s *scene) Target {
			return Target{Identity: Identity{Pid: 9996, Executable: serverExe}}
		}},
		{"an id between two", func(s *scene) Target {
			return Target{Identity: Identity{Pid: serverPid + 1, Executable: serverExe}}
		}},
		{"ended, but held open", func(s *scene) Target {
			_, _ = s.machine.procs[askerPid].openProcess(serverPid, toWatch)
			s.b.exit()
			return s.target()
		}},
		{"its id was given to another", func(s *scene) Target {
			id := s.b.id
			s.b.exit()
			time.Sleep(time.Minute)
			s.machine.spawn(serverPid, serverExe)
			return Target{Identity: id}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, docServer{mode: "deaf"}.run)
				target := test.target(s)
				a := s.machine.spawn(6000, `C:\srv\third.exe`)
				answer, err := ask(t.Context(), a, target, AskConfig{Prepare: func(Identity) error {
					t.Error("prepared for nobody")
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				if answer.Result != Nobody || answer.Reason == "" {
					t.Errorf("answer %+v", answer)
				}
				if gone, err := answer.Exited(); err != nil || !gone {
					t.Errorf("exited: %v, %v", gone, err)
				}
				if err := answer.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				if a.exists(Kill.Name(serverPid)) {
					t.Error("an event was made for nobody")
				}
				_ = answer.Close()
				if n := a.open(); n != 0 {
					t.Errorf("%d handles leak", n)
				}
				s.b.exit()
				<-s.done
			})
		})
	}
}

func TestAnswerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, docServer{}.run)
		answer, err := s.ask(t.Context(), AskConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if gone, err := answer.Exited(); gone || err != nil {
			t.Errorf("exited while it lingers: %v, %v", gone, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := answer.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited for a second: %v", err)
		}
		if err := answer.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if gone, err := answer.Exited(); !gone || err != nil {
			t.Errorf("not exited: %v, %v", gone, err)
		}
		if err := errors.Join(answer.Close(), answer.Close()); err != nil {
			t.Error(err)
		}
		s.end()
	})
}

// A pid file of an unmodified server is digits; its time is the proof.
func TestAskByPidFile(t *testing.T) {
	tests := []struct {
		name    string
		text    string        // empty: no file
		written time.Duration // since the server was started
		meant   string        // Target.Identity.Executable
		want    Result
		err     error
	}{
		{name: "no file", want: Nobody},
		{name: "not a number", text: "x", err: ErrPidFile},
		{name: "written by the server", text: "4240\r\n", written: time.Second, want: Confirmed},
		{name: "and its executable", text: "4240", written: time.Second, meant: "SERVER.EXE", want: Confirmed},
		{name: "but not its executable", text: "4240", written: time.Second, meant: "x.exe", err: ErrNotProved},
		{name: "written before it started", text: "4240", written: -time.Hour, want: Nobody},
		{name: "written before it started, but its executable", text: "4240", written: -time.Hour, meant: serverExe, err: ErrNotProved},
		{name: "of a process that is gone", text: "4244", written: time.Second, want: Nobody},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, docServer{}.run)
				path := filepath.Join(t.TempDir(), "pid")
				if test.text != "" {
					if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
						t.Fatal(err)
					}
					if err := os.Chtimes(path, time.Time{}, s.b.id.Created.Add(test.written)); err != nil {
						t.Fatal(err)
					}
				}
				answer, err := ask(t.Context(), s.a, Target{PidFile: path, Identity: Identity{Executable: test.meant}}, AskConfig{})
				if !errors.Is(err, test.err) || test.err == nil && (err != nil || answer.Result != test.want) {
					t.Errorf("answer %+v, error %v; want %s, %v", answer, err, test.want, test.err)
				}
				if asked := s.memory.writers.Load() == 0; asked != (test.want == Confirmed) {
					t.Errorf("asked: %v", asked)
				}
				if err == nil {
					_ = answer.Close()
				}
				s.end()
			})
		})
	}
}
