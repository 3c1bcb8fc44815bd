package process

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A process without children is killed without a look at all others; one that has some is left to those.
func TestKillLonely(t *testing.T) {
	g := launch(t, shell(t, "echo here >&3; exec sleep 1000"))
	g.line(t)
	ours, known := children(os.Getpid())
	if !known {
		t.Skip("the kernel does not tell of children")
	}
	if !slices.Contains(ours, g.leader.Pid) {
		t.Fatalf("%d is not among our children %v", g.leader.Pid, ours)
	}
	for _, pid := range ours { // orphans that other tests left
		if pid != g.leader.Pid {
			_ = unix.Kill(pid, unix.SIGKILL) // it has ended, mostly
			if _, err := unix.Wait4(pid, nil, 0, nil); err != nil && err != unix.ECHILD {
				t.Fatal(err)
			}
		}
	}
	m := NewMembers(g.leader, "")
	if ours, _ := children(os.Getpid()); !m.descends || len(ours) != 1 {
		t.Fatalf("we have other children than %d: %v", g.leader.Pid, ours)
	}
	m.killLonely(t.Context())
	eventually(t, "killed", func() bool { return !g.leader.Alive() })
	g.kill(t, m)

	g = launch(t, shell(t, twoGenerations))
	for range 3 {
		g.line(t)
	}
	if theirs, _ := children(g.leader.Pid); len(theirs) != 1 {
		t.Errorf("its children are %v", theirs)
	}
	m = NewMembers(g.leader, "")
	m.killLonely(t.Context())
	if !g.leader.Alive() {
		t.Error("one with children was killed before they were known")
	}
	g.kill(t, m)
}
