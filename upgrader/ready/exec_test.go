//go:build linux

package ready

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestExecOnce(t *testing.T) {
	for command, want := range map[string]string{
		"true":                            "",
		"exit 3":                          "exit status 3",
		"echo why >&2; exit 1":            "exit status 1: why",
		"printf 'a\\nb\\033[31m'; exit 1": "exit status 1: b?[31m",
		"yes | head -c 100000; exit 1":    "exit status 1: y",
		"kill -9 $$":                      "signal: killed",
		"no-such-command-here":            "exit status 127",
	} {
		err := Once(patient(t), Spec{Kind: Exec, Command: command}, nil)
		if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", command, err, want)
		}
	}
}

func TestExecIsRepeated(t *testing.T) {
	dir := t.TempDir()
	var started int
	o := &Options{Dir: dir, Env: []string{"MARK=yes", "PATH=" + os.Getenv("PATH")}, Start: func(c *exec.Cmd) error { started++; return c.Start() }}
	if err := Run(patient(t), Spec{Kind: Exec, Command: `test "$MARK" = yes && echo x >> count && test $(wc -l < count) = 3`}, o); err != nil || started != 3 {
		t.Errorf("after %d starts: %v", started, err)
	}
}

func TestExecThatCannotRunIsHopeless(t *testing.T) {
	if err := Run(patient(t), Spec{Kind: Exec, Command: "no-such-command-here"}, nil); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	o := &Options{Dir: filepath.Join(t.TempDir(), "missing")}
	if err := Run(patient(t), Spec{Kind: Exec, Command: "true"}, o); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// At the end of the context not only the shell is killed: what it started is
// gone too, which the end of a pipe that only they hold shows.
func TestExecKillsTheWholeGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip("no fifo here: ", err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR, 0) // so that neither side's open waits
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	reader, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithCancel(patient(t))
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Spec{Kind: Exec, Command: "exec 9>'" + path + "'; (sleep 600; true) & echo started >&9; sleep 600; true"}, nil)
	}()
	lines := bufio.NewReader(reader)
	if line, err := lines.ReadString('\n'); err != nil || line != "started\n" {
		t.Fatal(line, err)
	}
	_ = fifo.Close()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if line, err := lines.ReadString('\n'); err == nil {
		t.Errorf("somebody still writes: %q", line)
	}
}

// A command that leaves something behind which holds its output has been
// answered all the same.
func TestExecDoesNotWaitForWhatIsLeft(t *testing.T) {
	ctx := patient(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	o := &Options{Start: func(c *exec.Cmd) error {
		c.ExtraFiles = []*os.File{w}
		defer w.Close()
		return c.Start()
	}}
	if err := Once(ctx, Spec{Kind: Exec, Command: "sleep 600 & echo $! >&3; exit 0"}, o); err != nil {
		t.Error(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("kill", "-9", strings.TrimSpace(line)).Run(); err != nil { // the child of that shell, which still sleeps
		t.Error(err)
	}
}
