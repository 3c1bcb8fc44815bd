package upgrader

import (
	"os/exec"
	"testing"

	"github.com/upgrader/upgrader/upgrader/process"
)

// A generation has departed once it was told to leave, once its main process
// is gone, and when nobody knows it.
func TestLives(t *testing.T) {
	start := func() (*exec.Cmd, process.Identity) {
		c := exec.Command("sleep", "1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		id, err := process.Of(c.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return c, id
	}
	var l lives
	_, first := start()
	killed, second := start()
	l.begin(1, first)
	l.begin(2, second)
	l.begin(3, process.Identity{Pid: 1}) // nothing is known of it but that it was started
	is := func(when string, want ...bool) {
		t.Helper()
		for i, w := range want {
			if got := l.departed(i); got != w {
				t.Errorf("%s: generation %d departed is %v", when, i, got)
			}
		}
	}
	is("at first", true, false, false, false)
	l.leave(1)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	is("then", true, true, true, false)
	l.begin(1, first) // it daemonised while it left
	is("still", true, true, true, false)
	for n := range 4 {
		l.end(n)
	}
	is("in the end", true, true, true, true)
}
