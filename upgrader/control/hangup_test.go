package control

import (
	"context"
	"testing"
	"time"
)

// A server that hung up answers what it was asked before, however long that
// takes; what comes later is for the one that has the socket too.
func TestHangUp(t *testing.T) {
	old := newFake()
	goOn := make(chan struct{})
	old.do = func(ctx context.Context, _ Request) (Answer, error) {
		old.began <- struct{}{}
		select {
		case <-goOn:
			return Answer{Verdict: &Verdict{Verdict: Committed}}, nil
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
	first := serve(t, old, func(s *Server) { s.times.grace = time.Nanosecond })
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
	c := first.dial(t)
	answered := make(chan error, 1)
	go func() {
		v, err := c.SelfUpgrade(t.Context())
		if err == nil && v.Verdict != Committed {
			t.Errorf("the verdict is %+v", v)
		}
		answered <- err
	}()
	receive(t, "the call", old.began)
	first.Keep()
	first.HangUp()
	second := runServer(t, s, first.dir)
	if st, err := c.Status(t.Context()); err != nil || st.Name != "heir" {
		t.Errorf("%s, %v", st.Name, err)
	}
	close(goOn)
	if err := receive(t, "the answer", answered); err != nil {
		t.Error(err)
	}
	first.stop()
	second.stop()
}
