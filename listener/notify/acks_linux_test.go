package notify

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func TestCommandOf(t *testing.T) {
	for line, want := range map[string]string{
		`{"command":"worker:ack","pid":7}`:             "worker:ack",
		"---%0Acommand: worker:ack%0Apid: 7%0A":        "worker:ack", // as the Ruby client writes it
		"--- %0A:command: \"worker:ack\"%0A:pid: 7%0A": "worker:ack",
		`{"command":"worker:ping","request_id":"%25"}`: "worker:ping",
		"": "", "{": "", "worker:ack": "", "pid: 7": "", "%0A%0A": "",
	} {
		if got := commandOf(line + "\n"); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// Who says worker:ack is heard, by its own pid, and by nobody else's.
func TestAcks(t *testing.T) {
	a, err := ListenAcks(private(t, "e"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard, done := make(chan int, 10), make(chan error, 1)
	go func() { done <- a.Run(ctx, func(pid int) { heard <- pid }) }()
	say := func(text string) string {
		t.Helper()
		c, err := net.Dial("unix", a.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() // it was answered
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	if answer := say(`{"command":"worker:ack","pid":1}` + "\n"); answer != "" {
		t.Errorf("an ack was answered with %q", answer)
	}
	if answer := say(`{"command":"die"}` + "\n"); answer == "" {
		t.Error("what is not known was not answered")
	}
	select {
	case pid := <-heard:
		if pid != os.Getpid() {
			t.Errorf("heard of %d", pid)
		}
	case <-patient(t).Done():
		t.Fatal("it was not heard")
	}
	idle, err := net.Dial("unix", a.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close() // nothing was said
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(a.Path()); err == nil {
		t.Error("the socket is still there")
	}
	if len(heard) > 0 {
		t.Error("something else was heard")
	}
}
