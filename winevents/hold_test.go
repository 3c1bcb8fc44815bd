package winevents

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Two unmodified peers lose what the one sets and closes before the other
// looks, unless a third one holds their events.
func TestHold(t *testing.T) {
	tests := []struct {
		name    string
		server  docServer
		between time.Duration // of the asker, from one event to the other
	}{
		{name: "Kill", server: docServer{poll: 300 * time.Millisecond, first: 200 * time.Millisecond}},
		{name: "confirmation", between: 200 * time.Millisecond},
	}
	for _, test := range tests {
		for _, held := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newScene(t, test.server.run)
					parent := s.machine.spawn(7000, `C:\upgrader.exe`)
					if held {
						h, err := hold(parent, s.b.id, nil)
						if err != nil {
							t.Fatal(err)
						}
						defer h.Close()
					}
					want := -1
					if held {
						want = 0
					}
					if got := docAsk(s.a, serverPid, test.between); got != want {
						t.Errorf("held %v: the asker returned %d", held, got)
					}
					s.end()
				})
			})
		}
	}
}

// What is held has to be the process that is meant, and nothing leaks.
func TestHoldErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, docServer{}.run)
		parent := s.machine.spawn(7000, `C:\upgrader.exe`)
		other := s.b.id
		other.Created = other.Created.Add(time.Second)
		if _, err := hold(parent, other, nil); !errors.Is(err, ErrNotProved) {
			t.Errorf("another process of the same id: %v", err)
		}
		if _, err := hold(parent, Identity{Pid: 4444, Created: other.Created}, nil); !errors.Is(err, ErrNoProcess) {
			t.Errorf("no process: %v", err)
		}
		if _, err := hold(parent, Identity{Pid: serverPid}, nil); !errors.Is(err, ErrNotProved) {
			t.Errorf("without proof: %v", err)
		}
		h, err := hold(parent, s.b.id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.Close(), h.Close()); err != nil {
			t.Error(err)
		}
		if n := parent.open(); n != 0 {
			t.Errorf("%d handles leak", n)
		}
		s.end()
	})
}
