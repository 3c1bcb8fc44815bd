package windows

import (
	"bufio"
	"context"
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
// as testdata/lines.h wants them, waits for each answer, and never connects again.
type talkers struct {
	t     *testing.T
	stop  chan struct{}
	all   sync.WaitGroup
	lines atomic.Int64
	pids  []atomic.Int64 // by talker: the process that answered last

	mu     sync.Mutex
	failed []error
}

// pace is between two lines of a client; nothing is waited for by it.
const pace = 20 * time.Millisecond

func startTalkers(t *testing.T, address string, n int) *talkers {
	t.Helper()
	k := &talkers{t: t, stop: make(chan struct{}), pids: make([]atomic.Int64, n)}
	t.Cleanup(func() { k.end() })
	for i := range n {
		c, err := net.DialTimeout("tcp", address, patience)
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
		case <-time.After(pace):
		}
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c, "%d %d\n", i, n); err != nil {
			return err
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		var number int
		var pid int64
		if _, err := fmt.Sscanf(line, "%d %d\n", &number, &pid); err != nil || number != n {
			return fmt.Errorf("line %d was answered by %q", n, strings.TrimSpace(line))
		}
		k.pids[i].Store(pid)
		k.lines.Add(1)
	}
}

// awaitOther waits until every session was answered by the same process, and
// not by that one, and gives it.
func (k *talkers) awaitOther(pid int64) int64 {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	for {
		k.mu.Lock()
		err := errors.Join(k.failed...)
		k.mu.Unlock()
		if err != nil {
			k.t.Fatal(err)
		}
		first, same := k.pids[0].Load(), true
		for i := range k.pids {
			same = same && k.pids[i].Load() == first
		}
		if same && first != 0 && first != pid {
			return first
		}
		select {
		case <-time.After(pace):
		case <-ctx.Done():
			k.t.Fatal("not all sessions have gone on at another process")
		}
	}
}

// end ends them.
func (k *talkers) end() {
	select {
	case <-k.stop:
	default:
		close(k.stop)
	}
	k.all.Wait()
}

// unharmed ends them and wants every session alive, every line answered once,
// in order.
func (k *talkers) unharmed() {
	k.t.Helper()
	k.end()
	k.t.Logf("%d sessions, %d lines, %d sessions died, or lost, doubled or reordered lines", len(k.pids), k.lines.Load(), len(k.failed))
	if len(k.failed) > 0 {
		k.t.Error(k.failed[0])
	}
}
