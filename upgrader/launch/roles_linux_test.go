package launch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deadline is for facts that are waited for.
const deadline = 30 * time.Second

// roles are what the test binary does as a child.
func roles() map[string]func() error {
	return map[string]func() error{
		// A launcher of its own, for what is inherited by all of a process: prints what the launched command printed.
		"launch": func() error { return launchArgs(nil) },
		"launch-handling-hup": func() error {
			ignore := Ignored()
			signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
			return launchArgs(ignore)
		},
		"launch-held": func() error {
			h, err := Hold(os.Args[1])
			if err != nil {
				return err
			}
			child, err := start(context.Background(), Order{Path: os.Args[1], Held: h.File, Args: os.Args[1:]})
			if err != nil {
				return err
			}
			_, err = child.Wait()
			return err
		},
		// Passes its stdin at many numbers to a shell that looks at what it has.
		"pass": func() error {
			o := Order{Path: os.Args[1], Args: []string{"sh", "-c", `for n in 3 4 5 6 7 8 9 10 11; do test -e /proc/$$/fd/$n || exit 5; done; test ! -e /proc/$$/fd/12`}}
			for n := 3; n < 12; n++ {
				o.Files = append(o.Files, Passed{os.Stdin, n})
			}
			child, err := start(context.Background(), o)
			if err != nil {
				return err
			}
			status, err := child.Wait()
			if err == nil && !status.Success() {
				err = errors.New(status.String())
			}
			return err
		},
		// Gives its terminal, descriptor 3, to a command in a group of its own; prints whether it has it.
		"terminal": func() error {
			terminal := os.NewFile(3, "terminal")
			child, err := start(context.Background(), Order{Path: os.Args[1], Args: os.Args[1:], OwnGroup: true, Terminal: terminal})
			if err != nil {
				return err
			}
			group, err := unix.IoctlGetInt(3, unix.TIOCGPGRP)
			fmt.Println("foreground:", group == child.Pid)
			_ = child.Signal(unix.SIGKILL) // ended already is as good
			_, _ = child.Wait()
			return err
		},
		// Asks for a filter of its own and prints whether there is one already.
		"filter": func() error {
			_, err := start(context.Background(), Order{Path: os.Args[1]}, filterFor(unix.SYS_BIND)...)
			fmt.Println("busy:", errors.Is(err, ErrFilterBusy))
			return nil
		},
		// Starts the command with DieWithParent, prints its pid and dies when stdin ends.
		"die": func() error {
			child, err := start(context.Background(), Order{Path: os.Args[1], Args: os.Args[1:], DieWithParent: true,
				Files: []Passed{{mustOpen(os.DevNull), 0}, {mustOpen(os.DevNull), 1}, {mustOpen(os.DevNull), 2}}})
			if err != nil {
				return err
			}
			fmt.Println(child.Pid)
			_, _ = io.Copy(io.Discard, os.Stdin)
			return unix.Kill(os.Getpid(), unix.SIGKILL)
		},
		// Forks a shim, prints its pid and dies when stdin ends.
		"orphan-shim": func() error {
			shim, err := New(context.Background(), Order{Path: "/nowhere"})
			if err != nil {
				return err
			}
			fmt.Println(shim.Pid())
			_, _ = io.Copy(io.Discard, os.Stdin)
			return unix.Kill(os.Getpid(), unix.SIGKILL)
		},
	}
}

func mustOpen(path string) *os.File {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	return f
}

func launchArgs(ignore []syscall.Signal) error {
	child, err := start(context.Background(), Order{Path: os.Args[1], Args: os.Args[1:], Env: os.Environ(), Ignore: ignore})
	if err != nil {
		return err
	}
	status, err := child.Wait()
	if err == nil && !status.Success() {
		err = errors.New(status.String())
	}
	return err
}

func start(ctx context.Context, o Order, program ...Instruction) (*Child, error) {
	shim, err := New(ctx, o)
	if err != nil {
		return nil, err
	}
	return shim.Exec(Filter{Program: program})
}

// role is a command of the test binary in a role.
func role(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	return cmd
}

func exec1(sh, script string) *exec.Cmd { return exec.Command(sh, "-c", script) }

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// tool finds a program that the test is in need of.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	return path
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// launched starts the order and sees to its end.
func launched(t *testing.T, o Order, program ...Instruction) *Child {
	t.Helper()
	child, err := start(t.Context(), o, program...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := child.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		_, _ = child.Wait() // killed
		_ = child.Close()
		if child.Notify != nil {
			_ = child.Notify.Close()
		}
	})
	return child
}

// printed starts the order and returns what it printed on its standard output; it must succeed.
func printed(t *testing.T, o Order) string {
	t.Helper()
	r, w := pipe(t)
	o.Files = append(slices.Clone(o.Files), Passed{w, 1})
	child, err := start(t.Context(), o)
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	if child.Notify != nil {
		defer child.Notify.Close()
	}
	out, err := io.ReadAll(r)
	_ = r.Close()
	if err != nil {
		t.Fatal(err)
	}
	status, err := child.Wait()
	if err != nil || !status.Success() {
		t.Fatalf("%v: %v, %v; printed %q", o.Args, status, err, out)
	}
	return strings.TrimSpace(string(out))
}

// pipe is one whose ends block, as programs expect of their stdin (os.Pipe's do not).
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	ends := []int{0, 0}
	if err := unix.Pipe2(ends, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(ends[0]), "read end"), os.NewFile(uintptr(ends[1]), "write end")
	t.Cleanup(func() { _, _ = r.Close(), w.Close() }) // closed already is fine
	return r, w
}

func shell(t *testing.T, script string) Order {
	t.Helper()
	return Order{Path: tool(t, "sh"), Args: []string{"sh", "-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")}}
}

// eventually waits for a fact.
func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !fact(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

func firstLine(t *testing.T, r io.Reader) string {
	t.Helper()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// statusField is a field of /proc/PID/status; empty when there is no such process.
func statusField(pid int, field string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
