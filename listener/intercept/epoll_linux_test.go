package intercept

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEpollBeforeBind(t *testing.T) {
	eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		addr := free(t, "")
		g := startGuest(t, o, "epoll", addr)
		inodes := strings.Fields(g.expect("inodes"))
		if h.lane(inodes[0]) != h.lane(inodes[1]) {
			t.Errorf("two numbers of one socket, but lanes %v", inodes)
		}
		for i, want := range []string{"cloexec=true nonblock=true", "cloexec=false nonblock=true"} {
			if got := g.expect("flags"); got != want {
				t.Errorf("number %d: %s, want %s", i, got, want)
			}
		}
		if e := g.event("bind"); e.Rewatched != 2 || e.Err != nil {
			t.Errorf("registrations: %+v", e)
		}
		g.expect("ready")
		dial(t, "tcp4", addr, "epoll tells")
		g.finish()
	})
}

// TestEpollSetsUnderSignals: whoever answers is interrupted all the time, as by the runtime's own signals.
func TestEpollSetsUnderSignals(t *testing.T) {
	inMode(t, modes[1].guestOptions, func(t *testing.T, o guestOptions, h *lanes) {
		heard := make(chan os.Signal, 1)
		signal.Notify(heard, unix.SIGURG)
		defer signal.Stop(heard)
		stop := make(chan struct{})
		var all sync.WaitGroup
		defer all.Wait()
		defer close(stop)
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = unix.Kill(os.Getpid(), unix.SIGURG) // it is ourselves
				}
			}
		})
		g := startGuest(t, o, "epolls", "2000")
		g.expect("ready")
		g.finish()
	})
}

// TestEpollOutOfReach: a server that would never hear of a client does not get a lane.
func TestEpollOutOfReach(t *testing.T) {
	o, _ := needLook(t)
	o.Server.NoPidfdGetfd = true // and no set is kept
	g := startGuest(t, o, "epoll", free(t, ""))
	if e := g.event("bind"); e.Outcome != Refused || e.Rewatched != 0 || !errors.Is(e.Err, unix.EPERM) {
		t.Errorf("%+v", e)
	}
}
