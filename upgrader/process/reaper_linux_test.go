package process

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// zombie starts a child and waits until it has ended, unwaited for.
func zombie(t *testing.T, r *Reaper, script string) int {
	t.Helper()
	cmd := shell(t, script)
	start := func() (int, error) {
		err := cmd.Start()
		if err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	}
	var pid int
	var err error
	if r == nil {
		pid, err = start()
	} else {
		pid, err = r.Start(start)
	}
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{Pid: pid}
	if s, err := readStat(pid); err == nil {
		id = s.Identity
	}
	if err := id.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) }) // reaped already is fine
	return pid
}

func exists(pid int) bool {
	_, err := readStat(pid)
	return err == nil
}

func TestReaperGrace(t *testing.T) {
	reaped := map[int]syscall.WaitStatus{}
	r := &Reaper{Grace: time.Minute, Reaped: func(pid int, status syscall.WaitStatus) { reaped[pid] = status }}
	ours, stranger := zombie(t, r, "exit 7"), zombie(t, nil, "exit 8")
	now := time.Now()
	for _, step := range []struct {
		after time.Duration
		next  time.Duration
		gone  bool
	}{{0, time.Minute, false}, {time.Second, 59 * time.Second, false}, {time.Minute, 0, true}, {time.Hour, 0, true}} {
		next, err := r.pass(now.Add(step.after))
		if err != nil || next != step.next || exists(stranger) == step.gone {
			t.Errorf("after %v: next %v, %v; stranger there: %v", step.after, next, err, exists(stranger))
		}
	}
	if status, ok := reaped[stranger]; !ok || status.ExitStatus() != 8 {
		t.Errorf("reaped: %v", reaped)
	}
	if _, ok := reaped[ours]; ok {
		t.Error("a status of ours was taken")
	}
	var status unix.WaitStatus
	if pid, err := unix.Wait4(ours, &status, unix.WNOHANG, nil); err != nil || pid != ours || status.ExitStatus() != 7 {
		t.Errorf("our child: %d, %v, %v", pid, status, err)
	}
	if next, err := r.pass(now.Add(2 * time.Hour)); err != nil || next != 0 {
		t.Errorf("nobody left: %v, %v", next, err)
	}
}

func TestReaperForgets(t *testing.T) {
	r := &Reaper{Grace: time.Minute}
	pid := zombie(t, r, "exit 7")
	now := time.Now()
	if _, err := r.pass(now); err != nil {
		t.Fatal(err)
	}
	r.Forget(pid)
	for _, at := range []time.Time{now, now.Add(time.Hour)} {
		if _, err := r.pass(at); err != nil {
			t.Fatal(err)
		}
	}
	if exists(pid) {
		t.Error("a forgotten child was left lying")
	}
}

func TestReaperStartFails(t *testing.T) {
	r := new(Reaper)
	want := errors.New("no")
	if _, err := r.Start(func() (int, error) { return 0, want }); !errors.Is(err, want) {
		t.Error(err)
	}
}

// TestReaperRuns: orphans are reaped while children of ours come and go, with all their statuses.
func TestReaperRuns(t *testing.T) {
	reaped := make(chan int, 1000)
	r := &Reaper{Grace: time.Millisecond, Reaped: func(pid int, _ syscall.WaitStatus) { reaped <- pid }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	for i := range 10 {
		g := launch(t, shell(t, `(sleep 0 & echo $! >&3); exit 0`))
		orphan := number(t, g.line(t))
		var cmd *exec.Cmd
		_, err := r.Start(func() (int, error) {
			cmd = shell(t, "exit 9")
			if err := cmd.Start(); err != nil {
				return 0, err
			}
			return cmd.Process.Pid, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 9 {
			t.Errorf("%d: our child: %v", i, err)
		}
		eventually(t, "the orphan is reaped", func() bool { return !exists(orphan) })
		g.ended(t)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(reaped) == 0 {
		t.Error("nothing was told")
	}
}
