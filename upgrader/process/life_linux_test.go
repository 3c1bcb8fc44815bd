package process

import (
	"os/exec"
	"testing"
)

func TestLife(t *testing.T) {
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := Of(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	l, err := id.Life()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Ends() {
		t.Error("it runs")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := id.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !l.Ends() {
		t.Error("a zombie has ended")
	}
	_ = c.Wait() // it was killed
	if !l.Ends() {
		t.Error("one that was reaped has ended")
	}
	if _, err := id.Life(); !isGone(err) {
		t.Errorf("life of one that has ended: %v", err)
	}
}

// Lines of /proc/PID/stat: state, flags and threads are fields 3, 9 and 20.
func TestExits(t *testing.T) {
	line := func(state, flags, threads string) []byte {
		return []byte("12 (a) b) " + state + " 3 4 5 0 -1 " + flags + " 0 0 0 0 0 0 0 0 20 0 " + threads + " 0 777")
	}
	for _, c := range []struct {
		line    []byte
		exiting bool
		threads int
	}{
		{line("S", "4194560", "1"), false, 1},
		{line("R", "4194564", "1"), true, 1},
		{line("Z", "4194564", "7"), true, 7},
		{line("S", "4194560", "12"), false, 12},
		{[]byte("12 (short) S 3"), false, 0},
	} {
		if exiting, threads := exits(c.line); exiting != c.exiting || threads != c.threads {
			t.Errorf("%s: %v, %d", c.line, exiting, threads)
		}
	}
}
