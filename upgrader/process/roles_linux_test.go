package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deadline is for facts that are waited for.
const deadline = 30 * time.Second

// prepare makes the test binary what the upgrader is.
func prepare() {
	if err := Subreaper(); err != nil {
		panic(err)
	}
}

// role is what the test binary does as a child. Descriptor 3 is a pipe whose other end the test reads.
func role(name string) int {
	if err := map[string]func() error{
		// As daemons do it: a session of its own, and a parent that leaves. DEPTH times, then it stays.
		"daemon": func() error {
			depth, err := strconv.Atoi(os.Getenv("DEPTH"))
			if err != nil {
				return err
			}
			if depth == 0 {
				return stay()
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), "DEPTH="+strconv.Itoa(depth-1))
			cmd.ExtraFiles = []*os.File{os.NewFile(3, "pipe")}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			return cmd.Start()
		},
		"stay":     stay,
		"headless": headless,
	}[name](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 4
	}
	return 0
}

// stay says its pid and stays until it is killed, or the test is.
func stay() error {
	if _, err := fmt.Fprintln(os.NewFile(3, "pipe"), os.Getpid()); err != nil {
		return err
	}
	time.Sleep(time.Hour)
	return nil
}

// headless goes on without its first thread.
func headless() error {
	stays := make(chan struct{})
	for range 2 { // two of them: one may be on the first thread
		go func() {
			runtime.LockOSThread()
			first := unix.Gettid() == os.Getpid()
			stays <- struct{}{}
			if !first {
				_ = unix.Pause() // until it is killed
			}
			runtime.UnlockOSThread()
		}()
		<-stays
	}
	other := make(chan struct{})
	for range 100 { // each keeps its thread, so that the runtime comes to the first one before it makes many
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() != os.Getpid() {
				other <- struct{}{}
				select {}
			}
			fmt.Fprintln(os.NewFile(3, "pipe"), "ready")
			_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0) // of this thread alone
		}()
		<-other
	}
	fmt.Fprintln(os.NewFile(3, "pipe"), "the first thread is not to be had")
	return stay()
}

// guest is a process tree of a test; all of it holds the write end of a pipe as descriptor 3.
type guest struct {
	cmd    *exec.Cmd
	pipe   *os.File
	reader *bufio.Reader
	leader Identity
}

// launch starts the command in a process group of its own; the test ends only after all of it has.
func launch(t *testing.T, cmd *exec.Cmd) *guest {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = append([]*os.File{w}, cmd.ExtraFiles...)
	cmd.Stderr = os.Stderr
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	s, err := readStat(cmd.Process.Pid) // a zombie, should it have ended already
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{cmd: cmd, pipe: r, reader: bufio.NewReader(r), leader: s.Identity}
	t.Cleanup(func() {
		_ = r.Close()
		_ = cmd.Process.Kill() // ended already is what a test sees to, unless it failed
		_ = cmd.Wait()
	})
	return g
}

// line is the next thing that a process of the guest said on descriptor 3.
func (g *guest) line(t *testing.T) string {
	t.Helper()
	if err := g.pipe.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	line, err := g.reader.ReadString('\n')
	if err != nil {
		t.Fatalf("the guest said %q: %v", line, err)
	}
	return strings.TrimSpace(line)
}

// ended waits until no process holds descriptor 3: all of the guest has ended.
func (g *guest) ended(t *testing.T) {
	t.Helper()
	if err := g.pipe.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, g.reader); err != nil {
		t.Fatalf("somebody of the guest is left: %v", err)
	}
	_ = g.cmd.Wait() // its status is of no interest
}

// kill ends the guest by its members and sees that nobody is left.
func (g *guest) kill(t *testing.T, m *Members) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := m.Kill(ctx); err != nil {
		t.Error(err)
	}
	if list, err := m.List(); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
	g.ended(t)
}

// shell is a script whose processes all inherit descriptor 3.
func shell(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs sh:", err)
	}
	return exec.Command(path, append([]string{"-c", script, "sh"}, args...)...)
}

func self(t *testing.T, role string, env ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	return cmd
}

// eventually waits for a fact.
func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !fact(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

// orphaned waits until the process is our child.
func orphaned(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d is an orphan", pid), func() bool {
		s, err := readStat(pid)
		if err != nil {
			t.Fatal(err)
		}
		return s.parent == os.Getpid()
	})
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func isGone(err error) bool { return errors.Is(err, ErrGone) }
