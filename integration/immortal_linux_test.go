package integration

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestImmortal: a predecessor left a process behind that may not be killed, since it is somebody else's. No successor
// is started beside it; a full stop does not wait for it.
func TestImmortal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a setuid program")
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip(err)
	}
	s := newScratch(t, nobody)
	program := filepath.Join(s.dir, "immortal")
	if err := copySetuid(setpriv, program); err != nil {
		t.Fatal(err)
	}
	pids := filepath.Join(s.dir, "pids")
	if err := os.WriteFile(pids, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(pids, 0o666); err != nil {
		t.Fatal(err)
	}
	script := program + " --reuid 0 --clear-groups sleep 1000 & echo $! >>" + pids + "; exec " + guestBinary() + " -http env"
	u := start(t, options{
		flags:   []string{"--listen", fmt.Sprintf("127.0.0.1:%d", port(t)), "--strategy", "exclusive", "--stop-timeout", "300ms", "--settle", "0"},
		command: []string{"sh", "-c", script}, user: nobody, scratch: s,
	})
	u.awaitServing()
	left := func() []int {
		b, err := os.ReadFile(pids)
		if err != nil {
			t.Fatal(err)
		}
		var list []int
		for _, f := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
		}
		return list
	}
	t.Cleanup(func() {
		for _, pid := range left() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
		}
		eventually(t, "all have gone", func() error {
			if left := strays(); len(left) > 0 {
				return fmt.Errorf("left: %v", left)
			}
			return nil
		})
	})
	if _, _, code := u.run("restart", "--no-wait"); code != 0 {
		t.Fatalf("restart --no-wait: %d", code)
	}
	u.await("it is told that a process cannot be killed", func(statusReport) error {
		if !strings.Contains(u.output(), "cannot be killed") {
			return io.ErrNoProgress
		}
		return nil
	})
	if got := left(); len(got) != 1 {
		t.Fatalf("a successor was started beside it: %v", got)
	}
	if err := syscall.Kill(left()[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	u.await("the successor serves", func(r statusReport) error {
		if r.serving() != 2 {
			return io.ErrNoProgress
		}
		return nil
	})
	u.signal(syscall.SIGTERM)
	u.wait()
	if !strings.Contains(u.output(), "stopped") {
		t.Errorf("a full stop:\n%s", u.output())
	}
}

func copySetuid(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		return err
	}
	return os.Chmod(to, 0o755|os.ModeSetuid)
}
