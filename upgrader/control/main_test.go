package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for a fact.
const patience = 30 * time.Second

// fake is a service.
type fake struct {
	status Status
	err    error
	do     func(context.Context, Request) (Answer, error)
	events chan Event    // what happens; closing it ends the stream
	began  chan struct{} // gets one for each subscription
	ended  chan error    // gets the error of each
}

func newFake() *fake {
	return &fake{events: make(chan Event), began: make(chan struct{}, 100), ended: make(chan error, 100)}
}

func (f *fake) Status(context.Context) (Status, error) { return f.status, f.err }

func (f *fake) Do(ctx context.Context, r Request) (Answer, error) {
	if f.do == nil {
		return Answer{Message: "done"}, f.err
	}
	return f.do(ctx, r)
}

func (f *fake) Events(ctx context.Context, emit func(Event) error) error {
	f.began <- struct{}{}
	err := func() error {
		for {
			select {
			case e, ok := <-f.events:
				if !ok {
					return nil
				}
				if err := emit(e); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}()
	f.ended <- err
	return err
}

// running is a server that runs.
type running struct {
	*Server
	dir  string
	stop func() // ends it and waits for it; may be called twice
}

// serve runs a server until the test ends.
func serve(t *testing.T, h Handler, change ...func(*Server)) *running {
	t.Helper()
	dir := t.TempDir()
	s, err := Listen(dir, h)
	if err != nil {
		t.Fatal(err)
	}
	return runServer(t, s, dir, change...)
}

func runServer(t *testing.T, s *Server, dir string, change ...func(*Server)) *running {
	for _, f := range change {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error("Run:", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return &running{s, dir, stop}
}

// dial makes a client.
func (r *running) dial(t *testing.T) *Client {
	t.Helper()
	c, err := Dial(t.Context(), r.dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// raw makes a connection.
func (r *running) raw(t *testing.T) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(r.dir, socketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// last reads the last line of an answer.
func last(t *testing.T, conn net.Conn) reply {
	t.Helper()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			t.Fatal("no answer:", err)
		}
		var p reply
		if len(line) > 1 {
			if err := json.Unmarshal(line, &p); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		}
		if p.Done {
			return p
		}
	}
}

// receive waits for one of c.
func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("not reached")
	}
}

// is checks that err is an *Error with code.
func is(t *testing.T, err error, code string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("got %v, want one with the code %s", err, code)
	} else if strings.Contains(e.Message, "\n") || e.Message == "" {
		t.Errorf("%q is not a line", e.Message)
	}
}

// long makes a directory whose path is longer than a sockaddr_un.
func long(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
