package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// starterScript is a server for start_server: it fails if a file is there,
// writes the signals that it gets, and leaves its environment in a file when
// it is ready for them, and has written to stdout and stderr.
const starterScript = `#!/bin/sh
cd "$(dirname "$0")" || exit 1
if [ -e fail ]; then rm fail; echo "cannot start" >&2; exit 3; fi
g=$SERVER_STARTER_GENERATION
for s in TERM USR1 USR2; do trap "echo $s \$g >> signals; [ -e stubborn ] || exit 0" $s; done
echo "out $g"
echo "err $g" >&2
env > env.new && mv env.new env.$g
while :; do sleep 0.05; done
`

// starterRun is a start_server that a test runs.
type starterRun struct {
	t       *testing.T
	dir     *scratch
	command *exec.Cmd
	gone    chan struct{}
}

// starterProgram puts a link of that name and the server into a new folder.
func starterProgram(t *testing.T) *scratch {
	t.Helper()
	need(t, "sh", "env")
	s := newScratch(t, 0)
	if err := os.Symlink(upgraderBinary(), s.path("start_server")); err != nil {
		t.Fatal(err)
	}
	s.write(t, "server", starterScript, 0o755)
	return s
}

// starterStart runs start_server with pid and status files around the script.
func starterStart(t *testing.T, s *scratch, env []string, flags ...string) *starterRun {
	t.Helper()
	flags = append([]string{"--interval", "0.3", "--pid-file", "pid", "--status-file", "status"}, flags...)
	r := &starterRun{t: t, dir: s, gone: make(chan struct{})}
	r.command = exec.Command(s.path("start_server"), append(flags, "--", "./server")...)
	r.command.Dir, r.command.Env = s.dir, append(os.Environ(), env...)
	log, err := os.OpenFile(s.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // start_server has its own
	r.command.Stdout, r.command.Stderr = log, log
	r.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.command.Start(); err != nil {
		t.Fatal(err)
	}
	pid := r.command.Process.Pid
	nowLiving(pid, t.Name())
	go func() {
		_ = r.command.Wait() // its status is in ProcessState
		noLongerLiving(pid)
		close(r.gone)
	}()
	t.Cleanup(func() {
		select {
		case <-r.gone:
		default:
			left := descendants(pid)
			_ = r.command.Process.Kill() // it may have ended just now
			<-r.gone
			killAll(left)
			if !t.Failed() {
				t.Error("the test left its start_server running")
			}
		}
		if t.Failed() {
			text, _ := os.ReadFile(s.path("log"))
			t.Logf("start_server's output:\n%s", text)
		}
	})
	return r
}

func (r *starterRun) signal(sig syscall.Signal) {
	r.t.Helper()
	if err := r.command.Process.Signal(sig); err != nil {
		r.t.Fatal(err)
	}
}

// end stops it and wants status 0 and no files left.
func (r *starterRun) end(sig syscall.Signal) {
	r.t.Helper()
	r.signal(sig)
	r.ended()
}

func (r *starterRun) ended() {
	r.t.Helper()
	select {
	case <-r.gone:
	case <-time.After(patience):
		r.t.Fatal("start_server did not end")
	}
	if code := status(r.command.ProcessState); code != 0 {
		r.t.Errorf("exit status %d, want 0", code)
	}
	for _, name := range []string{"pid", "status"} {
		if _, err := os.Lstat(r.dir.path(name)); err == nil {
			r.t.Errorf("%s is left", name)
		}
	}
}

// starterFile is a file's text; "" when there is none.
func starterFile(s *scratch, name string) string {
	text, _ := os.ReadFile(s.path(name)) // not there yet
	return string(text)
}

// starterServes waits until the status file names exactly these generations
// and the last one is ready for signals, and gives the pids.
func starterServes(t *testing.T, s *scratch, generations ...int) []int {
	t.Helper()
	var pids []int
	eventually(t, fmt.Sprintf("generations %v", generations), func() error {
		text := starterFile(s, "status")
		pids = nil
		lines := strings.Fields(text)
		for i, line := range lines {
			g, p, ok := strings.Cut(line, ":")
			pid, err := strconv.Atoi(p)
			if !ok || err != nil || len(lines) != len(generations) || g != strconv.Itoa(generations[i]) {
				return fmt.Errorf("the status file says %q", text)
			}
			pids = append(pids, pid)
		}
		if len(pids) != len(generations) {
			return fmt.Errorf("the status file says %q", text)
		}
		last := fmt.Sprintf("env.%d", generations[len(generations)-1])
		if server := starterFile(s, "server"); server == starterScript && starterFile(s, last) == "" {
			return fmt.Errorf("%s is not there", last)
		}
		return nil
	})
	return pids
}

// starterVariable is what a generation found in its environment.
func starterVariable(t *testing.T, s *scratch, generation int, key string) (string, bool) {
	t.Helper()
	text := starterFile(s, fmt.Sprintf("env.%d", generation))
	if text == "" {
		t.Fatalf("generation %d left no environment", generation)
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), key+"="); ok {
			return v, true
		}
	}
	return "", false
}

// starterCall is one call of start_server to its end.
func starterCall(t *testing.T, s *scratch, arguments ...string) (stdout, stderr string, code int) {
	t.Helper()
	return run(t, runOptions{binary: s.path("start_server"), dir: s.dir}, arguments...)
}

// getsid is the session of a process.
func getsid(pid int) (int, error) {
	session, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(session), nil
}
