package integration

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Records are committed at full speed through swaps. In half of them somebody
// is killed, whoever it is and whatever was under way: no record is lost, none
// is there twice, and while an upgrader runs nobody is refused.
func TestMemorySwaps(t *testing.T) {
	for kind, shm := range segments(t) {
		t.Run(kind, func(t *testing.T) {
			s := newScratch(t, 0)
			a := address(t)
			s.ledger(t, "-ready")
			u := start(t, options{scratch: s, command: []string{s.path("server")}, flags: []string{
				"--listen", a, "--shm", shm, "--backup-dir", s.path("snapshots"), "--settle", "2ms", "--ready", "notify",
				"--probation", "0", "--retry-interval", "10ms", "--retry-max", "1000"}})
			u.awaitServing()
			if s := ledgerOf(t, a); s.Found != "fresh" {
				t.Errorf("the first generation found %s", s.Found)
			}
			w := startWriters(t, a, 3)
			w.awaitMore(10)
			k := killer{w: w, upgraders: kind != "memfd", killed: map[string]int{}} // whose memory ends with the last who holds it
			longest := 10 * time.Millisecond
			for i := range amount("INTEGRATION_MEMORY_SWAPS", 50) {
				if i%2 == 1 {
					u = k.swap(u, time.Duration(rand.Int64N(int64(longest))))
				} else {
					began := time.Now()
					u.swap()
					longest = max(longest, time.Since(began))
					if s := ledgerOf(t, a); s.Found != "saved" {
						t.Errorf("generation %s found the segment %s", s.Generation, s.Found)
					}
				}
				w.awaitMore(5)
			}
			w.mustBeAll()
			t.Logf("killed: %v", k.killed)
			u.mustCleanShutdown()
		})
	}
}

// killer kills somebody in the middle of swaps.
type killer struct {
	w         *writers
	upgraders bool           // one of them, too, alone or with its servers
	killed    map[string]int // how many of whom
}

// swap asks for one and kills somebody so long after. It gives the upgrader
// that runs when somebody serves again.
func (k *killer) swap(u *upgrader, after time.Duration) *upgrader {
	u.t.Helper()
	if _, stderr, code := u.run("restart", "--no-wait"); code != 0 {
		u.t.Fatalf("restart exited %d: %s", code, stderr)
	}
	time.Sleep(after) // any time is right
	whom := "server"
	if k.upgraders {
		whom = []string{"server", "upgrader", "both"}[rand.IntN(3)]
	}
	k.killed[whom]++
	if whom == "server" {
		if servers := descendants(u.pid()); len(servers) > 0 {
			killAll(servers[rand.IntN(len(servers)):][:1])
		}
		k.awaitServing(u)
		return u
	}
	k.w.excused.Store(true)
	var servers []process
	if whom == "both" {
		servers = descendants(u.pid())
	}
	u.kill()
	killAll(servers)
	u = u.again()
	k.awaitServing(u)
	k.w.excused.Store(false)
	return u
}

// awaitServing waits until no swap is under way, and none queues.
func (k *killer) awaitServing(u *upgrader) {
	u.t.Helper()
	calm := 0
	u.await("serving", func(s statusReport) error {
		if s.serving() == 0 || s.State != "serving" || len(s.Generations) != 1 {
			calm = 0
			return fmt.Errorf("state %s, generations %+v", s.State, s.Generations)
		}
		if calm++; calm < 2 { // the swap that was asked for may not have begun
			return fmt.Errorf("not for long")
		}
		return nil
	})
}
