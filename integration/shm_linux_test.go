package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ledgerState is what a ledger answers.
type ledgerState struct {
	Count, Sum uint64
	Last       []uint64
	Found      string
	Pid        int
	Generation string
	Unsound    string
}

// onLedger starts an upgrader around a ledger on a segment; flags are added to
// those of the upgrader.
func onLedger(t *testing.T, shm string, flags ...string) (*upgrader, *scratch, string) {
	t.Helper()
	return onLedgerWith(t, "", shm, flags...)
}

// onLedgerWith is onLedger, whose ledger has flags of its own.
func onLedgerWith(t *testing.T, own, shm string, flags ...string) (*upgrader, *scratch, string) {
	t.Helper()
	s := newScratch(t, 0)
	a := address(t)
	all := append([]string{"--listen", a, "--settle", "5ms", "--shm", shm, "--backup-dir", s.path("snapshots")}, flags...)
	s.ledger(t, own)
	u := start(t, options{scratch: s, flags: all, command: []string{s.path("server")}})
	u.awaitServing()
	return u, s, a
}

// ledger puts a new version of the server there: a script that runs a ledger
// with flags, and says in a comment what else it is to say.
func (s *scratch) ledger(t *testing.T, flags string, comments ...string) {
	t.Helper()
	text := "#!/bin/sh\n"
	for _, c := range comments {
		text += "# " + c + "\n"
	}
	s.write(t, "server", text+"exec "+ledgerBinary()+" "+flags+"\n", 0o755)
}

// bridgeOf is where the bridge page of a System V segment lies.
func bridgeOf(key, id int) string {
	return fmt.Sprintf("/dev/shm/upgrader-sysv-%08x-%d.bridge", key, id)
}

// segments gives a specification of each kind, that nobody else uses, and
// removes what is left of it.
func segments(t *testing.T) map[string]string {
	t.Helper()
	name := fmt.Sprintf("upgrader-test-%d-%d", os.Getpid(), rand.Uint32())
	file := filepath.Join(newScratch(t, 0).dir, "segment")
	key := 0x75000000 | rand.IntN(1<<24)
	t.Cleanup(func() {
		for _, path := range []string{name, name + ".bridge"} {
			_ = os.Remove("/dev/shm/" + path) // most tests make none
		}
		if id, err := unix.SysvShmGet(key, 0, 0); err == nil {
			_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // likewise
			_ = os.Remove(bridgeOf(key, id))               // likewise
		}
	})
	return map[string]string{
		"memfd": "memfd:" + name + ",size=1M", "posix": "posix:/" + name + ",size=1M",
		"sysv": fmt.Sprintf("sysv:%#x,size=1M", key), "file": "file:" + file + ",size=1M",
	}
}

// ledgerOf asks a ledger for its state.
func ledgerOf(t *testing.T, a string) ledgerState {
	t.Helper()
	var s ledgerState
	eventually(t, "the ledger answers", func() error {
		r, err := fresh().Get("http://" + a + "/")
		if err != nil {
			return err
		}
		defer func() { _ = r.Body.Close() }() // it was read
		s = ledgerState{}
		return json.NewDecoder(r.Body).Decode(&s)
	})
	if s.Unsound != "" {
		t.Errorf("generation %s of the ledger is not sound: %s", s.Generation, s.Unsound)
	}
	return s
}

// fresh is a client that makes a connection for each request.
func fresh() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
}

// post asks a ledger to do something.
func post(ctx context.Context, a, what string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+a+what, nil)
	if err != nil {
		return err
	}
	answer, err := fresh().Do(r)
	if err != nil {
		return err
	}
	_ = answer.Body.Close() // its status is all that matters
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", what, answer.Status)
	}
	return nil
}

// writers commit records as fast as they can, each again until it was answered.
type writers struct {
	t       *testing.T
	address string
	stop    context.CancelFunc
	done    sync.WaitGroup
	acked   []atomic.Uint64 // of each writer its last record
	refused atomic.Int64
	excused atomic.Bool // no upgrader runs: nobody can hold a port
}

func startWriters(t *testing.T, a string, n int) *writers {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	before := ledgerOf(t, a)
	w := &writers{t: t, address: a, stop: cancel, acked: make([]atomic.Uint64, n)}
	for i := range n {
		w.acked[i].Store(before.Last[i])
		w.done.Go(func() { w.write(ctx, i) })
	}
	t.Cleanup(func() { cancel(); w.done.Wait() })
	return w
}

// write runs until ctx ends. The record under way then is not cut short.
func (w *writers) write(ctx context.Context, i int) {
	for n := w.acked[i].Load() + 1; ctx.Err() == nil; {
		err := post(context.Background(), w.address, fmt.Sprintf("/add?client=%d&n=%d", i, n))
		switch {
		case err == nil:
			w.acked[i].Store(n)
			n++
		case errors.Is(err, syscall.ECONNREFUSED) && !w.excused.Load():
			w.refused.Add(1)
			fallthrough
		default: // the server was killed with it in hand: nobody knows whether it was committed
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (w *writers) total() (n uint64) {
	for i := range w.acked {
		n += w.acked[i].Load()
	}
	return n
}

// awaitMore waits until n more records were answered.
func (w *writers) awaitMore(n uint64) {
	w.t.Helper()
	want := w.total() + n
	eventually(w.t, "more records", func() error {
		if have := w.total(); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
}

// mustBeAll stops the writers and wants every record in the ledger that was
// answered, once: the last of a writer may be there without an answer.
func (w *writers) mustBeAll() {
	w.t.Helper()
	w.stop()
	w.done.Wait()
	s := ledgerOf(w.t, w.address)
	for i := range w.acked {
		if acked := w.acked[i].Load(); s.Last[i] != acked && s.Last[i] != acked+1 {
			w.t.Errorf("writer %d was answered %d records, the ledger has %d", i, acked, s.Last[i])
		}
	}
	if n := w.refused.Load(); n != 0 {
		w.t.Errorf("%d connections were refused", n)
	}
	w.t.Logf("%d records by %d writers", s.Count, len(w.acked))
}

// killServer ends the serving generation as a crash would, and waits until the
// next one serves.
func (u *upgrader) killServer() {
	u.t.Helper()
	before := u.awaitServing().server()
	if err := syscall.Kill(before.Pid, syscall.SIGKILL); err != nil {
		u.t.Fatal(err)
	}
	u.await("another generation", func(s statusReport) error {
		if s.serving() <= before.Number {
			return fmt.Errorf("state %s, generations %+v", s.State, s.Generations)
		}
		return nil
	})
}

// A named segment is there for the next upgrader, saved by a full stop.
func TestMemoryOutlivesUpgrader(t *testing.T) {
	shm := segments(t)["file"]
	u, _, a := onLedger(t, shm)
	w := startWriters(t, a, 2)
	w.awaitMore(20)
	w.mustBeAll()
	before := ledgerOf(t, a)
	u.mustCleanShutdown()
	u = u.again()
	u.awaitServing()
	if s := ledgerOf(t, a); s.Found != "saved" || s.Count != before.Count || s.Sum != before.Sum {
		t.Errorf("before %+v, after %+v", before, s)
	}
	u.mustCleanShutdown()
}

// The upgrader is killed; the next one takes the segment over from the server
// that it finds, and swaps.
func TestMemoryUpgraderKilled(t *testing.T) {
	for kind, shm := range segments(t) {
		t.Run(kind, func(t *testing.T) {
			u, _, a := onLedger(t, shm, "--probation", "0")
			w := startWriters(t, a, 2)
			w.awaitMore(20)
			u.swap()
			u.awaitAlone()
			u.kill()
			w.awaitMore(5) // the server does not mind
			u = u.again()
			u.await("the adopted server was swapped", func(s statusReport) error {
				if s.serving() < 3 || s.State != "serving" || s.lastVerdict().Verdict != "committed" {
					return fmt.Errorf("state %s, %+v, generations %+v", s.State, s.lastVerdict(), s.Generations)
				}
				return nil
			})
			if s := ledgerOf(t, a); s.Found != "saved" {
				t.Errorf("the successor found the segment %s", s.Found)
			}
			w.awaitMore(20)
			w.mustBeAll()
			u.mustCleanShutdown()
		})
	}
}

// A server that never takes the lease saves by its exit.
func TestMemoryUnmanaged(t *testing.T) {
	shm := segments(t)["memfd"]
	u, s, a := onLedger(t, shm)
	s.ledger(t, "-unmanaged")
	u.swap()
	if err := post(t.Context(), a, "/add?client=1&n=1"); err != nil {
		t.Fatal(err)
	}
	if r := u.status(); r.Segment.Managed || r.Segment.State != "live" {
		t.Errorf("the segment is %+v", r.Segment)
	}
	u.swap()
	if l := ledgerOf(t, a); l.Found != "saved" || l.Count != 1 {
		t.Errorf("after the exit of an unmanaged server: %+v", l)
	}
	u.mustCleanShutdown()
}
