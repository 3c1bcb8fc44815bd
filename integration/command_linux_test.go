package integration

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a fact is waited for: much longer than it takes on a
// machine that does ten other things.
const patience = 30 * time.Second

// living are the processes whose descendants are no leak of another test's
// upgrader: upgraders that run, and servers that tests need.
var living = struct {
	sync.Mutex
	pids map[int]string
}{pids: map[int]string{}}

func nowLiving(pid int, what string) {
	living.Lock()
	defer living.Unlock()
	living.pids[pid] = what
}

func noLongerLiving(pid int) {
	living.Lock()
	defer living.Unlock()
	delete(living.pids, pid)
}

// strays gives our descendants that belong to nothing that lives.
func strays() []process {
	living.Lock()
	defer living.Unlock()
	return descendants(os.Getpid(), slices.Collect(maps.Keys(living.pids))...)
}

// runOptions say how a command is run to its end.
type runOptions struct {
	binary, dir string
	user        int
	env         []string
}

// run waits for a command; one that does not end fails the test.
func run(t *testing.T, o runOptions, arguments ...string) (stdout, stderr string, code int) {
	t.Helper()
	if o.binary == "" {
		o.binary = upgraderBinary()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	c := exec.CommandContext(ctx, o.binary, arguments...)
	var out, errors bytes.Buffer
	c.Stdout, c.Stderr = &out, &errors
	c.Dir, c.Env = o.dir, append(os.Environ(), o.env...)
	c.WaitDelay = time.Second // a server that inherited the pipes does not hold the test
	if o.user != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(o.user), Gid: uint32(o.user)}}
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	nowLiving(c.Process.Pid, "a command of "+t.Name())
	_ = c.Wait() // its status is in ProcessState
	noLongerLiving(c.Process.Pid)
	if ctx.Err() != nil {
		t.Fatalf("%s %s did not end\nstdout: %s\nstderr: %s", o.binary, strings.Join(arguments, " "), &out, &errors)
	}
	return out.String(), errors.String(), status(c.ProcessState)
}

// status is the exit status as a shell gives it.
func status(p *os.ProcessState) int {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return p.ExitCode()
}

// eventually waits until check has nothing to complain of.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not after %v: %v", what, patience, err)
		}
		<-tick.C
	}
}
