package launch

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"nil", nil, 0},
		{"not found", fmt.Errorf("x: %w", ErrNotFound), 127},
		{"directory", fmt.Errorf("x: %w", ErrDirectory), 126},
		{"not executable", ErrNotExecutable, 126},
		{"exec: no file", &ExecError{Step: StepExec, Err: syscall.ENOENT}, 127},
		{"exec: not a directory on the way", &ExecError{Step: StepExec, Err: syscall.ENOTDIR}, 127},
		{"exec: no permission", &ExecError{Step: StepExec, Err: syscall.EACCES}, 126},
		{"exec: no format", fmt.Errorf("x: %w", &ExecError{Step: StepExec, Err: syscall.ENOEXEC}), 126},
		{"chdir", &ExecError{Step: StepChdir, Err: syscall.ENOENT}, 0},
		{"other", errors.New("other"), 0},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestExecErrorMatches(t *testing.T) {
	busy := error(&ExecError{Step: StepFilter, Err: syscall.EBUSY})
	if !errors.Is(busy, ErrFilter) || !errors.Is(busy, ErrFilterBusy) || !errors.Is(busy, syscall.EBUSY) {
		t.Errorf("%v does not match what it is", busy)
	}
	denied := error(&ExecError{Step: StepFilter, Err: syscall.EPERM})
	if !errors.Is(denied, ErrFilter) || errors.Is(denied, ErrFilterBusy) || !errors.Is(denied, os.ErrPermission) {
		t.Errorf("%v does not match what it is", denied)
	}
	chdir := error(&ExecError{Step: StepChdir, Path: "/nowhere", Err: syscall.ENOENT})
	if errors.Is(chdir, ErrFilter) || errors.Is(chdir, ErrNotFound) || !errors.Is(chdir, os.ErrNotExist) {
		t.Errorf("%v does not match what it is", chdir)
	}
	if want := "launch: chdir /nowhere: " + syscall.ENOENT.Error(); chdir.Error() != want {
		t.Errorf("%q, want %q", chdir, want)
	}
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		status Status
		code   int
		text   string
	}{
		{Status{}, 0, "exit status 0"},
		{Status{Code: 7}, 7, "exit status 7"},
		{Status{Signal: syscall.SIGKILL}, 137, "signal: " + syscall.SIGKILL.String()},
		{Status{Signal: syscall.SIGABRT, CoreDumped: true}, 134, "signal: " + syscall.SIGABRT.String() + " (core dumped)"},
	} {
		if c.status.ExitCode() != c.code || c.status.String() != c.text || c.status.Success() != (c.code == 0) {
			t.Errorf("%+v: %d %q", c.status, c.status.ExitCode(), c.status)
		}
	}
}
