package listener

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// handOver makes a second set of the sockets of one; both are frozen.
func handOver(t *testing.T, from *Set) *Set {
	t.Helper()
	from.Freeze()
	var files []*os.File
	for _, c := range from.Claims() {
		for _, l := range from.LanesOn(c) {
			f, err := l.Dup()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			files = append(files, f)
		}
	}
	to := newSet(t, Config{RescueTime: 10 * time.Millisecond})
	to.Freeze()
	if err := to.AdoptFiles(from.State(), files); err != nil {
		t.Fatal(err)
	}
	return to
}

// Two upgraders have the same lanes for a while. The new one adds its own and
// steers to it. If it takes over, that stays; if it dies, all is as it was.
func TestFreeze(t *testing.T) {
	for _, spec := range []string{"tcp4://127.0.0.1:0", "udp4://127.0.0.1:0", "unix", "unixgram"} {
		for _, taken := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s taken %v", strings.TrimSuffix(spec, "://127.0.0.1:0"), taken), func(t *testing.T) {
				t.Parallel()
				spec := spec
				if onPath(spec) {
					spec += "://" + filepath.Join(t.TempDir(), "s")
				}
				old := newSet(t, Config{RescueTime: 10 * time.Millisecond})
				c := claim(t, old, spec)
				want := func(when string, gen int) {
					t.Helper()
					if got, err := ask(c.Network(), c.Dial()); err != nil || got != gen {
						t.Errorf("%s: generation %d answers (%v), want %d", when, got, err, gen)
					}
				}
				lane(t, old, c, 1)
				one := serve(t, old, 1)
				want("alone", 1)
				next := handOver(t, old)
				nc := next.Claims()[0]
				lane(t, next, nc, 2)
				two := serve(t, next, 2)
				want("beside the new one", 1)
				if err := next.Steer(2); err != nil {
					t.Fatal(err)
				}
				want("steered by the new one", 2)
				left, survives, gone := next, 2, 1
				if taken {
					err := old.Detach()
					if err == nil {
						err = next.Thaw()
					}
					if err != nil {
						t.Fatal(err)
					}
					want("taken over", 2)
					one.stop()
					next.Retire(1)
				} else {
					two.stop()
					err := next.Detach()
					if err == nil {
						err = old.Thaw()
					}
					if err != nil {
						t.Fatal(err)
					}
					left, survives, gone = old, 1, 2
				}
				want("in the end", survives)
				for deadline := time.Now().Add(patience); slices.Contains(left.Generations(), gone); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("lanes of %v are left", left.Generations())
					}
				}
				want("alone again", survives)
			})
		}
	}
}
