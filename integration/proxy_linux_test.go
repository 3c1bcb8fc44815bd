package integration

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// talkers are clients that stay: each says numbered lines on one connection,
// waits for each answer, and never connects again.
type talkers struct {
	t      *testing.T
	pause  time.Duration
	stop   chan struct{}
	all    sync.WaitGroup
	lines  atomic.Int64
	newest []atomic.Int64 // by talker: the generation that answered last

	mu     sync.Mutex
	failed []error
}

func startTalkers(t *testing.T, network, address string, n int, pause time.Duration) *talkers {
	t.Helper()
	k := &talkers{t: t, pause: pause, stop: make(chan struct{}), newest: make([]atomic.Int64, n)}
	t.Cleanup(func() { k.end() })
	for i := range n {
		c, err := net.DialTimeout(network, address, patience)
		if err != nil {
			t.Fatal(err)
		}
		k.all.Go(func() {
			defer func() { _ = c.Close() }()
			if err := k.talk(i, c); err != nil {
				k.mu.Lock()
				defer k.mu.Unlock()
				k.failed = append(k.failed, fmt.Errorf("session %d: %w", i, err))
			}
		})
	}
	return k
}

func (k *talkers) talk(i int, c net.Conn) error {
	in := bufio.NewReader(c)
	for n := 1; ; n++ {
		select {
		case <-k.stop:
			return nil
		case <-time.After(k.pause): // a pace, nothing is waited for
		}
		if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c, "%d\n", n); err != nil {
			return err
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		number, generation := 0, int64(0)
		if _, err := fmt.Sscanf(line, "%d gen=%d", &number, &generation); err != nil || number != n {
			return fmt.Errorf("line %d was answered by %q", n, strings.TrimSpace(line))
		}
		if before := k.newest[i].Swap(generation); before > generation {
			return fmt.Errorf("generation %d answered after %d", generation, before)
		}
		k.lines.Add(1)
	}
}

// awaitAll waits until that generation has answered every session.
func (k *talkers) awaitAll(generation int) {
	k.t.Helper()
	eventually(k.t, fmt.Sprintf("answers of generation %d to all", generation), func() error {
		k.mu.Lock()
		err := errors.Join(k.failed...)
		k.mu.Unlock()
		if err != nil {
			k.t.Fatal(err)
		}
		left := 0
		for i := range k.newest {
			if k.newest[i].Load() < int64(generation) {
				left++
			}
		}
		if left > 0 {
			return fmt.Errorf("%d sessions are elsewhere", left)
		}
		return nil
	})
}

// firstFailure is nil as long as all sessions live.
func (k *talkers) firstFailure() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.failed) > 0 {
		return k.failed[0]
	}
	return nil
}

func (k *talkers) end() []error {
	select {
	case <-k.stop:
	default:
		close(k.stop)
	}
	k.all.Wait()
	return k.failed
}

// unharmed ends them and wants every session alive, every line answered once,
// in order.
func (k *talkers) unharmed(what string) {
	k.t.Helper()
	failed := k.end()
	k.t.Logf("%s: %d sessions, %d lines, %d sessions died or lost lines", what, len(k.newest), k.lines.Load(), len(failed))
	if len(failed) > 0 {
		k.t.Errorf("%s: %v", what, failed[0])
	}
}

// Sessions outlive their server: none dies, and no line is lost, answered
// twice, or answered out of turn.
func TestProxySessions(t *testing.T) {
	clients, swaps := amount("INTEGRATION_CLIENTS", 1000), amount("INTEGRATION_SWAPS", 50)
	for _, c := range []struct {
		name  string
		flags []string
		guest func(*scratch) []string
		check func(p proxyReport) bool
	}{
		{
			name: "overlap", flags: []string{"--drain-max", "100"},
			guest: func(s *scratch) []string { return []string{"-file", s.path("table")} },
			// A session that the next swap finds still on its way to the last one moves once for both.
			check: func(p proxyReport) bool { return p.Moved >= clients },
		},
		{
			name: "exclusive", flags: []string{"--strategy", "exclusive", "--shm", "memfd:sessions,size=2M"},
			guest: func(*scratch) []string { return nil },
			check: func(p proxyReport) bool { return p.Resumed >= clients },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScratch(t, 0)
			a := address(t)
			u := start(t, options{
				scratch: s,
				flags:   append([]string{"--proxy", a + "=intercepted", "--proxy-protocol", "v2", "--settle", "20ms", "--settle-max", "20s", "--probation", "0"}, c.flags...),
				command: append([]string{sessionsBinary(), "-listen", a}, c.guest(s)...),
			})
			u.awaitServing()
			k := startTalkers(t, "tcp", a, clients, time.Second)
			k.awaitAll(1)
			for range swaps {
				u.swap()
				if err := k.firstFailure(); err != nil {
					t.Fatal(err) // the log ends with this swap
				}
			}
			k.awaitAll(swaps + 1)
			p := u.status().Proxies[0]
			k.unharmed(fmt.Sprintf("%d swaps", swaps))
			t.Logf("%+v", p)
			if p.InFlight != 0 || p.Reset != 0 || !c.check(p) {
				t.Errorf("the proxy counts %+v", p)
			}
			u.awaitAlone()
			u.mustCleanShutdown()
		})
	}
}
