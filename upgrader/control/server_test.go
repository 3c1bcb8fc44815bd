package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestCalls(t *testing.T) {
	f := newFake()
	var asked atomic.Pointer[Request]
	verdict := Verdict{Swap: 2, Verdict: RolledBack, Reason: "it died", From: 1, To: 2, Took: time.Second,
		Phases: []Phase{{"start", time.Millisecond}}, Exit: &ExitStatus{Code: 3}, Stderr: []string{"oh"}}
	f.do = func(_ context.Context, r Request) (Answer, error) {
		asked.Store(&r)
		if r.Args.NoWait || r.Do == DoReload || r.Do == DoStop {
			return Answer{Message: "done"}, nil
		}
		return Answer{Verdict: &verdict}, nil
	}
	f.status = Status{Name: "api", Pid: 7, Claims: []Claim{{Name: "web"}}, Verdicts: []Verdict{verdict}}
	c := serve(t, f).dial(t)
	ctx := t.Context()

	s, err := c.Status(ctx)
	want := Status{Version: 1, Name: "api", Pid: 7, Command: []string{}, Generations: []Generation{},
		Claims: []Claim{{Name: "web", Lanes: []LaneInfo{}}}, Verdicts: []Verdict{verdict}, Totals: Totals{Phases: []PhaseTotal{}}}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("status %+v, %v", s, err)
	}
	if f.status.Claims[0].Lanes != nil {
		t.Error("the handler's own status was written to")
	}
	for _, x := range []struct {
		call func() (Verdict, error)
		do   string
		args Args
		want Verdict
	}{
		{func() (Verdict, error) { return c.Restart(ctx, RestartOptions{}) }, DoRestart, Args{}, verdict},
		{func() (Verdict, error) { return c.Restart(ctx, RestartOptions{WaitProbation: true}) }, DoRestart, Args{WaitProbation: true}, verdict},
		{func() (Verdict, error) { return c.Restart(ctx, RestartOptions{NoWait: true}) }, DoRestart, Args{NoWait: true}, Verdict{}},
		{func() (Verdict, error) { return c.Rollback(ctx, RestartOptions{}) }, DoRollback, Args{}, verdict},
		{func() (Verdict, error) { return Verdict{}, c.Reload(ctx) }, DoReload, Args{}, Verdict{}},
		{func() (Verdict, error) { return Verdict{}, c.Stop(ctx, false) }, DoStop, Args{}, Verdict{}},
		{func() (Verdict, error) { return Verdict{}, c.Stop(ctx, true) }, DoStop, Args{Now: true}, Verdict{}},
	} {
		v, err := x.call()
		if err != nil || !reflect.DeepEqual(v, x.want) {
			t.Errorf("%s %+v: %+v, %v", x.do, x.args, v, err)
		}
		if r := *asked.Load(); r.Do != x.do || r.Args != x.args || r.Asked != AskedCommand {
			t.Errorf("%s %+v was understood as %+v", x.do, x.args, r)
		}
	}
}

func TestErrors(t *testing.T) {
	f := newFake()
	c := serve(t, f).dial(t)
	for _, x := range []struct {
		err  error
		code string
	}{
		{errors.New("no"), CodeFailed},
		{&Error{CodeStopping, "stopping"}, CodeStopping},
		{fmt.Errorf("wrapped: %w", &Error{CodeBusy, "busy"}), CodeBusy},
		{fmt.Errorf("no: %w", errors.ErrUnsupported), CodeUnsupported},
	} {
		f.err = x.err
		_, err := c.Status(t.Context())
		is(t, err, x.code)
		is(t, c.Reload(t.Context()), x.code)
	}
	f.err = nil
	if _, err := c.Restart(t.Context(), RestartOptions{}); err == nil {
		t.Error("an answer without a verdict was one")
	}
}

func TestEvents(t *testing.T) {
	f := newFake()
	s := serve(t, f)
	c := s.dial(t)
	got := make(chan Event)
	done := make(chan error, 1)
	go func() {
		done <- c.Events(t.Context(), func(e Event) error { got <- e; return nil })
	}()
	receive(t, "the subscription", f.began)
	for i := 1; i <= 3; i++ {
		e := Event{What: "ready", Generation: i, Took: time.Second}
		f.events <- e
		if g := receive(t, "the event", got); g != e {
			t.Errorf("%+v became %+v", e, g)
		}
	}
	s.stop()
	if err := receive(t, "the end", done); err != nil {
		t.Errorf("the end of the upgrader: %v", err)
	}
	if err := receive(t, "its end", f.ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestEventsEndWithTheClient(t *testing.T) {
	stop := errors.New("enough")
	for name, x := range map[string]struct {
		f    func(context.CancelFunc) error
		want error
	}{
		"func":    {func(context.CancelFunc) error { return stop }, stop},
		"context": {func(cancel context.CancelFunc) error { cancel(); return nil }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			s := serve(t, f, func(s *Server) { s.times.alive = time.Millisecond })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- s.dial(t).Events(ctx, func(Event) error { return x.f(cancel) }) }()
			receive(t, "the subscription", f.began)
			f.events <- Event{What: "ready"}
			if err := receive(t, "the end", done); !errors.Is(err, x.want) {
				t.Error(err)
			}
			receive(t, "the handler's end, though nothing happens", f.ended)
		})
	}
}

func TestAWaitingCallerThatLeaves(t *testing.T) {
	f := newFake()
	left := make(chan error, 1)
	f.do = func(ctx context.Context, _ Request) (Answer, error) {
		f.began <- struct{}{}
		<-ctx.Done()
		left <- ctx.Err()
		return Answer{}, ctx.Err()
	}
	s := serve(t, f, func(s *Server) { s.times.alive = time.Millisecond })
	conn := s.raw(t)
	io.WriteString(conn, `{"v":1,"do":"restart"}`+"\n")
	receive(t, "the call", f.began)
	conn.CloseWrite() // as `nc -N` does: it still waits
	io.ReadFull(conn, make([]byte, 3))
	select {
	case <-left:
		t.Fatal("who has nothing more to say was taken for gone")
	default:
	}
	conn.Close()
	receive(t, "the end", left)
}

func TestAnswersThatAreDueAtTheEnd(t *testing.T) {
	f := newFake()
	stopped := make(chan struct{})
	f.do = func(ctx context.Context, r Request) (Answer, error) {
		f.began <- struct{}{}
		if r.Do == DoStop {
			<-stopped
			return Answer{Message: "stopped"}, nil
		}
		<-ctx.Done()
		return Answer{}, ctx.Err()
	}
	s := serve(t, f, func(s *Server) { s.times.grace = 10 * time.Millisecond })
	c := s.dial(t)
	stop, restart := make(chan error, 1), make(chan error, 1)
	go func() { stop <- c.Stop(t.Context(), false) }()
	go func() { _, err := c.Restart(t.Context(), RestartOptions{}); restart <- err }()
	receive(t, "the call", f.began)
	receive(t, "the call", f.began)
	idle := s.raw(t)
	io.WriteString(idle, `{"v":1,`)
	close(stopped)
	s.stop()
	if err := receive(t, "the answer", stop); err != nil {
		t.Error("a stop that was done:", err)
	}
	is(t, receive(t, "the answer", restart), CodeStopping)
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Error("behind the end:", err)
	}
}

func TestHostileRequests(t *testing.T) {
	f := newFake()
	s := serve(t, f, func(s *Server) { s.times.request = patience })
	impatient := serve(t, f, func(s *Server) { s.times.request = time.Millisecond })
	for name, x := range map[string]struct{ text, code string }{
		"nothing":       {"", CodeBadRequest},
		"half":          {`{"v":1,"do":"status"}`, CodeBadRequest},
		"no json":       {"GET / HTTP/1.1\r\n", CodeBadRequest},
		"array":         {"[1]\n", CodeBadRequest},
		"null":          {"null\n", CodeVersion},
		"no version":    {`{"do":"status"}` + "\n", CodeVersion},
		"version":       {`{"v":2,"do":"status","new":1}` + "\n", CodeVersion},
		"no command":    {`{"v":1}` + "\n", CodeBadRequest},
		"unknown":       {`{"v":1,"do":"explode"}` + "\n", CodeUnknown},
		"unknown field": {`{"v":1,"do":"restart","args":{"dry_run":true}}` + "\n", CodeBadRequest},
		"wrong type":    {`{"v":1,"do":"stop","args":{"now":"yes"}}` + "\n", CodeBadRequest},
		"asked":         {`{"v":1,"do":"stop","Asked":"crash"}` + "\n", CodeBadRequest},
		"long":          {`{"v":1,"do":"` + strings.Repeat("x", maxRequest) + `"}` + "\n", CodeBadRequest},
		"endless":       {strings.Repeat("x", 10*maxRequest), CodeBadRequest},
		"deep":          {strings.Repeat("[", 60_000) + "\n", CodeBadRequest},
	} {
		server := s
		if name == "nothing" || name == "half" {
			server = impatient
		}
		conn := server.raw(t)
		io.WriteString(conn, x.text) // it may be refused before it has said everything
		p := last(t, conn)
		if p.Error == nil {
			t.Errorf("%s was answered with %+v", name, p)
			continue
		}
		is(t, p.Error, x.code)
		conn.Close()
	}
	conn := s.raw(t)
	conn.CloseWrite()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("who asks nothing got %v", err)
	}
	conn = s.raw(t) // byte by byte, in time, with empty lines before
	for _, b := range []byte("\n \n" + `{"v":1,"do":"status"}` + "\n") {
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if p := last(t, conn); p.Status == nil {
		t.Errorf("%+v", p)
	}
}

func TestAClientThatDoesNotRead(t *testing.T) {
	f := newFake()
	s := serve(t, f, func(s *Server) { s.times.write = 10 * time.Millisecond })
	conn := s.raw(t)
	io.WriteString(conn, `{"v":1,"do":"events"}`+"\n")
	receive(t, "the subscription", f.began)
	for { // until its buffer is full and its time is over
		select {
		case f.events <- Event{What: strings.Repeat("x", 10_000)}:
			continue
		case err := <-f.ended:
			if err == nil {
				t.Error("it was thought to have read everything")
			}
		case <-time.After(patience):
			t.Error("it holds its handler for ever")
		}
		break
	}
}

func TestTooManyConnections(t *testing.T) {
	f := newFake()
	s := serve(t, f, func(s *Server) { s.times.request = patience })
	c := s.dial(t)
	var conns []net.Conn
	for range connections {
		conns = append(conns, s.raw(t))
	}
	// The connection of Dial may not be seen closed yet, nor all of these open.
	deadline := time.Now().Add(patience)
	var err error
	for err == nil {
		if _, err = c.Status(t.Context()); time.Now().After(deadline) {
			t.Fatal("none was refused")
		}
	}
	is(t, err, CodeBusy)
	for _, conn := range conns {
		conn.Close()
	}
	for err != nil {
		if _, err = c.Status(t.Context()); time.Now().After(deadline) {
			t.Fatal("they are still counted:", err)
		}
	}
}

func TestManyAtATime(t *testing.T) {
	f := newFake()
	f.status.Name = strings.Repeat("n", 300_000) // more than a socket's buffer
	s := serve(t, f)
	c := s.dial(t)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			if st, err := c.Status(t.Context()); err != nil || len(st.Name) != 300_000 {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f.status.Name = strings.Repeat("n", maxReply)
	_, err := c.Status(t.Context())
	is(t, err, CodeFailed)
}

func TestSocket(t *testing.T) {
	for name, dir := range map[string]string{"short": t.TempDir(), "long": long(t)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, socketName)
			for range 2 { // the second time in place of one that was left
				s, err := Listen(dir, newFake())
				if err != nil {
					t.Fatal(err)
				}
				if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
					t.Errorf("%v, %v", info.Mode(), err)
				}
				s.Keep()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
					t.Errorf("nobody listens: %v", err)
				}
			}
			s, err := Listen(dir, newFake())
			if err != nil {
				t.Fatal(err)
			}
			r := runServer(t, s, dir)
			if _, err := r.dial(t).Status(t.Context()); err != nil {
				t.Error(err)
			}
			r.stop()
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
				t.Errorf("left: %v, %v", entries, err)
			}
			if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), dir) {
				t.Errorf("nothing is there: %v", err)
			}
		})
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "none"), newFake()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestInherit(t *testing.T) {
	old := newFake()
	old.status.Name = "old"
	first := serve(t, old)
	f, err := first.File()
	if err != nil {
		t.Fatal(err)
	}
	heir := newFake()
	heir.status.Name = "heir"
	s, err := Inherit(f, first.dir, heir)
	if err != nil {
		t.Fatal(err)
	}
	if f.Close() == nil {
		t.Error("the descriptor was left open")
	}
	c := first.dial(t)
	first.Keep()
	first.stop()
	second := runServer(t, s, first.dir)
	if st, err := c.Status(t.Context()); err != nil || st.Name != "heir" {
		t.Errorf("%s, %v", st.Name, err)
	}
	second.stop()
	if _, err := os.Lstat(filepath.Join(first.dir, socketName)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := Inherit(r, first.dir, heir); err == nil {
		t.Error("a pipe was taken for the socket")
	}
}

func TestOnlyOurSocketIsRemoved(t *testing.T) {
	s := serve(t, newFake())
	other, err := Listen(s.dir, newFake())
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	if _, err := Dial(t.Context(), s.dir); err != nil {
		t.Error("the other one's is gone:", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

func TestExitCode(t *testing.T) {
	for verdict, want := range map[string]int{Committed: 0, "": 0, RolledBack: 1, Failed: 2, "other": 2} {
		if got := ExitCode(Verdict{Verdict: verdict}); got != want {
			t.Errorf("%s: %d", verdict, got)
		}
	}
}
