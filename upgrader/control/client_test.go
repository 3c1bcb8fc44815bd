package control

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// impostor answers every connection with text, and closes it if it is told so.
func impostor(t *testing.T, text string, closes bool) *Client {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, text)
			if closes {
				conn.Close()
			}
		}
	}()
	return &Client{dir: dir, silence: patience}
}

func TestWrongAnswers(t *testing.T) {
	for text, want := range map[string]error{
		"":                             ErrLeft,
		"\n\n":                         ErrLeft,
		`{"v":1,"done":true`:           ErrLeft,
		`{"v":1,"message":"x"}` + "\n": ErrLeft,
	} {
		if _, err := impostor(t, text, true).Status(t.Context()); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"what\n", "[]\n", `{"v":1,"done":true}` + "\n"} {
		if _, err := impostor(t, text, true).Status(t.Context()); err == nil || errors.Is(err, ErrLeft) {
			t.Errorf("%q: %v", text, err)
		}
	}
	_, err := impostor(t, `{"v":2,"done":true,"status":{}}`+"\n", true).Status(t.Context())
	is(t, err, CodeVersion)
	_, err = impostor(t, `{"v":2,"done":true,"error":{"code":"version","message":"two"}}`+"\n", true).Status(t.Context())
	is(t, err, CodeVersion)
}

func TestAnUpgraderThatIsSilent(t *testing.T) {
	c := impostor(t, "", false)
	c.silence = time.Millisecond
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrSilent) {
		t.Error(err)
	}
	c.silence = patience
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestSignsOfLifeKeepAClientWaiting(t *testing.T) {
	f := newFake()
	verdict := make(chan struct{})
	f.do = func(ctx context.Context, _ Request) (Answer, error) {
		f.began <- struct{}{}
		<-verdict
		return Answer{Verdict: &Verdict{Verdict: Committed}}, nil
	}
	s := serve(t, f, func(s *Server) { s.times.alive = time.Millisecond })
	conn := s.raw(t)
	io.WriteString(conn, `{"v":1,"do":"restart"}`+"\n")
	signs := make([]byte, 5)
	if _, err := io.ReadFull(conn, signs); err != nil || string(signs) != "\n\n\n\n\n" {
		t.Errorf("%q, %v", signs, err)
	}
	close(verdict)
	if p := last(t, conn); p.Verdict == nil || p.Verdict.Verdict != Committed {
		t.Errorf("%+v", p)
	}
}
