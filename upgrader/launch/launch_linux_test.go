package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStatusOfChild(t *testing.T) {
	for _, c := range []struct {
		script string
		want   int
	}{{"exit 0", 0}, {"exit 7", 7}, {"kill -9 $$", 137}, {"kill -15 $$", 143}} {
		child := launched(t, shell(t, c.script))
		status, err := child.Wait()
		if err != nil || status.ExitCode() != c.want {
			t.Errorf("%s: %v, %v; want %d", c.script, status, err, c.want)
		}
		again, err := child.Wait()
		if err != nil || again != status {
			t.Errorf("%s: the second time: %v, %v", c.script, again, err)
		}
		if err := child.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%s: signal to a dead child: %v", c.script, err)
		}
	}
}

func TestExecErrors(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	writeFile(t, path("plain"), "x", 0o644)
	writeFile(t, path("empty"), "", 0o755)
	writeFile(t, path("bad-interpreter"), "#!/nowhere/interpreter\n", 0o755)
	sh := tool(t, "sh")
	zero := uint32(0)
	for _, c := range []struct {
		name  string
		order Order
		step  string
		path  string
		err   error
		code  int
	}{
		{"no such file", Order{Path: path("none")}, StepExec, path("none"), unix.ENOENT, 127},
		{"below a file", Order{Path: path("plain/x")}, StepExec, path("plain/x"), unix.ENOTDIR, 127},
		{"not executable", Order{Path: path("plain")}, StepExec, path("plain"), unix.EACCES, 126},
		{"directory", Order{Path: dir}, StepExec, dir, unix.EACCES, 126},
		{"no format", Order{Path: path("empty")}, StepExec, path("empty"), unix.ENOEXEC, 126},
		{"no interpreter", Order{Path: path("bad-interpreter")}, StepExec, path("bad-interpreter"), unix.ENOENT, 127},
		{"empty path", Order{}, StepExec, "", unix.ENOENT, 127},
		{"NUL in an argument", Order{Path: sh, Args: []string{"a\x00b"}}, StepExec, sh, unix.EINVAL, 126},
		{"too big", Order{Path: sh, Args: []string{"sh", strings.Repeat("x", 1<<20)}}, StepExec, sh, unix.E2BIG, 126},
		{"no such directory", Order{Path: sh, Dir: path("none")}, StepChdir, path("none"), unix.ENOENT, 0},
		{"no cgroup", Order{Path: sh, Cgroup: path("none")}, StepCgroup, path("none/cgroup.procs"), unix.ENOENT, 0},
		{"closed file", Order{Path: sh, Files: []Passed{{closedFile(t), 3}}}, StepDescriptors, "|0", os.ErrClosed, 0},
		{"no file", Order{Path: sh, Files: []Passed{{nil, 3}}}, StepDescriptors, "", os.ErrInvalid, 0},
		{"number twice", Order{Path: sh, Files: []Passed{{os.Stdin, 3}, {os.Stdin, 3}}}, StepDescriptors, "", unix.EBADF, 0},
		{"negative number", Order{Path: sh, Files: []Passed{{os.Stdin, -1}}}, StepDescriptors, "", unix.EBADF, 0},
		{"huge number", Order{Path: sh, Files: []Passed{{os.Stdin, 1 << 20}}}, StepDescriptors, "", unix.EINVAL, 0},
		{"no terminal", Order{Path: sh, OwnGroup: true, Terminal: mustOpen(os.DevNull)}, StepTerminal, "", unix.ENOTTY, 0},
		{"user 0", Order{Path: sh, Uid: &zero}, StepSetuid, "0", unix.EPERM, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "user 0" && os.Geteuid() == 0 {
				t.Skip("root may")
			}
			child, err := start(t.Context(), c.order)
			var failure *ExecError
			if child != nil || !errors.As(err, &failure) {
				t.Fatalf("%v, %v", child, err)
			}
			if failure.Step != c.step && !(c.name == "user 0" && failure.Step == StepSetgroups) {
				t.Errorf("step %q, want %q (%v)", failure.Step, c.step, err)
			}
			if failure.Path != c.path || !errors.Is(err, c.err) || ExitCode(err) != c.code {
				t.Errorf("%v (path %q, code %d); want path %q, %v, code %d", err, failure.Path, ExitCode(err), c.path, c.err, c.code)
			}
		})
	}
}

func closedFile(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.Close(), w.Close()
	return r
}

func TestBadFilter(t *testing.T) {
	for name, program := range map[string][]Instruction{"no instruction": {{Code: 0xffff}}, "too long": make([]Instruction, unix.BPF_MAXINSNS+1)} {
		child, err := start(t.Context(), shell(t, "exit 0"), program...)
		if want := map[bool]error{true: ErrFilter, false: unix.EINVAL}[name == "no instruction"]; !errors.Is(err, want) {
			t.Errorf("%s: %v, %v; want %v", name, child, err, want)
		}
	}
}

func TestShimIsUsedOnce(t *testing.T) {
	shim, err := New(t.Context(), shell(t, "exit 0"))
	if err != nil {
		t.Fatal(err)
	}
	shim.Discard()
	shim.Discard()
	if child, err := shim.Exec(Filter{}); err == nil {
		t.Errorf("a discarded shim became %d", child.Pid)
	}
	if unix.Kill(shim.Pid(), 0) == nil && statusField(shim.Pid(), "PPid") == strconv.Itoa(os.Getpid()) {
		t.Error("the shim is still there")
	}
}

func TestShimDies(t *testing.T) {
	shim, err := New(t.Context(), shell(t, "exit 0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(shim.Pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	child, err := shim.Exec(Filter{})
	if !errors.Is(err, ErrShimDied) {
		t.Errorf("%v, %v; want %v", child, err, ErrShimDied)
	}
}

func TestContextEndsShim(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	shim, err := New(ctx, shell(t, "exit 0"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if child, err := shim.Exec(Filter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v; want %v", child, err, context.Canceled)
	}
	if _, err := New(ctx, shell(t, "exit 0")); !errors.Is(err, context.Canceled) {
		t.Errorf("New: %v", err)
	}
}

func TestContextIsForgottenAfterExec(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := pipe(t)
	o := shell(t, "read x; exit 5")
	o.Files = []Passed{{r, 0}}
	child, err := start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	cancel()
	_ = w.Close()
	if status, err := child.Wait(); err != nil || status.Code != 5 {
		t.Errorf("%v, %v", status, err)
	}
}

func TestPidVariables(t *testing.T) {
	o := shell(t, `echo "$$ $LISTEN_PID $OTHER_PID ${LISTEN_PIDFDID-unset} $KEPT"; read x`)
	o.Env = append(o.Env, "LISTEN_PID=1", "KEPT=kept \xff", "LISTEN_PIDFDID=2")
	o.PidVariables, o.PidfdVariables = []string{"LISTEN_PID", "OTHER_PID"}, []string{"LISTEN_PIDFDID"}
	in, _ := pipe(t)
	out, w := pipe(t)
	o.Files = []Passed{{in, 0}, {w, 1}}
	child := launched(t, o)
	_ = w.Close()
	inode := "unset"
	if fd, err := unix.PidfdOpen(child.Pid, 0); err == nil { // another one than the command was told of
		theirs := os.NewFile(uintptr(fd), "pidfd")
		if id, ok := pidfdInode(theirs); ok {
			inode = strconv.FormatUint(id, 10)
		}
		_ = theirs.Close()
	}
	if got, want := firstLine(t, out), fmt.Sprintf("%d %d %d %s kept \xff", child.Pid, child.Pid, child.Pid, inode); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if child.Pidfd() != nil && inode != "unset" {
		info, err := child.Pidfd().Stat()
		if err != nil || strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10) != inode {
			t.Errorf("our pidfd is another one: %v, %v", info, err)
		}
	}
}

func TestEnvironmentIsExact(t *testing.T) {
	t.Setenv("LEAKED", "yes")
	o := Order{Path: tool(t, "env"), Env: []string{"A=1", "EMPTY=", "B=two words"}}
	if got := printed(t, o); got != "A=1\nEMPTY=\nB=two words" {
		t.Errorf("%q", got)
	}
	o.Env = nil
	if got := printed(t, o); got != "" {
		t.Errorf("no environment: %q", got)
	}
}

func TestArgumentsAndDirectory(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "script"), "#!"+tool(t, "sh")+"\npwd -P\nfor a; do echo \"<$a>\"; done\n", 0o755)
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := printed(t, Order{Path: "./script", Args: []string{"name", "", "a b", "\xfe", ""}, Dir: dir})
	if want := real + "\n<>\n<a b>\n<\xfe>\n<>"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBigOrder(t *testing.T) {
	o := shell(t, `echo ${#BIG_7} $#`)
	for i := range 16 { // more than a socket's buffer
		o.Env = append(o.Env, fmt.Sprintf("BIG_%d=%s", i, strings.Repeat("x", 60_000)))
	}
	if got := printed(t, o); got != "60000 0" {
		t.Error(got)
	}
}

func TestUmask(t *testing.T) {
	mask := 0o137
	o := shell(t, "umask")
	o.Umask = &mask
	if got := printed(t, o); got != "0137" {
		t.Error(got)
	}
}

func TestUserAndGroup(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	uid, gid := uint32(65534), uint32(65533)
	o := Order{Path: tool(t, "cat"), Args: []string{"cat", "/proc/self/status"}, Uid: &uid, Gid: &gid, Groups: []uint32{65531, 65532}, DieWithParent: true}
	got := strings.Join(strings.Fields(printed(t, o)), " ")
	for _, want := range []string{"Uid: 65534 65534 65534 65534", "Gid: 65533 65533 65533 65533", "Groups: 65531 65532 ", "CapEff: 0000000000000000"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	o.Groups, o.Uid = nil, nil
	if got := strings.Join(strings.Fields(printed(t, o)), " "); !strings.Contains(got, "Groups: NStgid") || !strings.Contains(got, "Uid: 0 0 0 0 Gid: 65533") {
		t.Errorf("group alone: %s", got)
	}
}

func TestOwnGroup(t *testing.T) {
	o := shell(t, "read x")
	r, _ := pipe(t)
	o.Files = []Passed{{r, 0}}
	for _, own := range []bool{true, false} {
		o.OwnGroup = own
		child := launched(t, o)
		group, err := unix.Getpgid(child.Pid)
		if err != nil || (group == child.Pid) != own {
			t.Errorf("own %v: group %d of %d, %v", own, group, child.Pid, err)
		}
	}
}

// TestTerminal: the group gets the foreground although it asks from the background.
func TestTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs a pseudo terminal:", err)
	}
	defer master.Close()
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	if err := errors.Join(raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}), err); err != nil {
		t.Skip("needs a pseudo terminal:", err)
	}
	terminal, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs a pseudo terminal:", err)
	}
	defer terminal.Close()
	cmd := role(t, "terminal", tool(t, "sleep"), "1000")
	cmd.ExtraFiles = []*os.File{terminal}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	if got := output(t, cmd); got != "foreground: true" {
		t.Error(got)
	}
}

func TestDieWithParent(t *testing.T) {
	cmd := role(t, "die", tool(t, "sleep"), "1000")
	pid := orphan(t, cmd)
	eventually(t, "the child dies with its parent", func() bool { return gone(pid) })
}

func TestShimLeavesWithParent(t *testing.T) {
	pid := orphan(t, role(t, "orphan-shim"))
	eventually(t, "the shim leaves with its parent", func() bool { return gone(pid) })
}

func gone(pid int) bool {
	state := statusField(pid, "State")
	return state == "" || strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

// orphan starts a role that prints the pid of its child, and kills the role.
func orphan(t *testing.T, cmd *exec.Cmd) (pid int) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := firstLine(t, out)
	pid, err = strconv.Atoi(line)
	if err != nil || gone(pid) {
		t.Errorf("child %q: %v", line, err)
	}
	_ = in.Close()
	if err := cmd.Wait(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Errorf("the parent was not killed: %v", err)
	}
	return pid
}

func TestManyAtOnce(t *testing.T) {
	sh := shell(t, `test "$LISTEN_PID" = $$ && test -e /proc/self/fd/3 && test ! -e /proc/self/fd/4 && exit 3`)
	sh.PidVariables = []string{"LISTEN_PID"}
	const total, lanes = 200, 16
	work := make(chan int)
	errs := make(chan error, total)
	var all sync.WaitGroup
	for range lanes {
		all.Go(func() {
			for range work {
				errs <- func() error {
					r, w, err := os.Pipe()
					if err != nil {
						return err
					}
					defer r.Close()
					defer w.Close()
					o := sh
					o.Files = []Passed{{r, 3}}
					child, err := start(t.Context(), o)
					if err != nil {
						return err
					}
					defer child.Close()
					status, err := child.Wait()
					if err != nil || status.Code != 3 {
						return fmt.Errorf("%v, %v", status, err)
					}
					return nil
				}()
			}
		})
	}
	for i := range total {
		work <- i
	}
	close(work)
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestNoDescriptorLeaks(t *testing.T) {
	before := openDescriptors(t, os.Getpid())
	for range 5 {
		_ = printed(t, shell(t, "exit 0"))
		if _, err := start(t.Context(), Order{Path: "/nowhere"}); err == nil {
			t.Fatal("started nothing")
		}
		shim, err := New(t.Context(), shell(t, "exit 0"))
		if err != nil {
			t.Fatal(err)
		}
		shim.Discard()
	}
	after := openDescriptors(t, os.Getpid())
	if len(after) > len(before)+2 { // the runtime's poller may have come
		t.Errorf("before %v, after %v", before, after)
	}
}

// awaitDescriptors waits until exactly these are open: the dynamic loader has some of its own for a while.
func awaitDescriptors(t *testing.T, child *Child, want []int) {
	t.Helper()
	var got []int
	eventually(t, fmt.Sprintf("%d has open %v", child.Pid, want), func() bool {
		got = openDescriptors(t, child.Pid)
		select {
		case <-child.Done():
			status, err := child.Wait()
			t.Fatalf("it ended: %v, %v; open were %v", status, err, got)
		default:
		}
		return slices.Equal(got, want)
	})
}

func openDescriptors(t *testing.T, pid int) []int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	var list []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// TestCopy is the shim of machines for which there is no other: with a copy of our memory.
func TestCopy(t *testing.T) {
	o := shell(t, `test "$LISTEN_PID" = $$ && echo "$A"`)
	o.Env, o.PidVariables = append(o.Env, "A=1"), []string{"LISTEN_PID"}
	r, w := pipe(t)
	o.Files = []Passed{{w, 1}}
	s, err := newShim(t.Context(), o, false)
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	child, err := s.Exec(Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	if got := firstLine(t, r); got != "1" {
		t.Errorf("%q", got)
	}
	if status, err := child.Wait(); err != nil || !status.Success() {
		t.Errorf("%v, %v", status, err)
	}
	if s, err = newShim(t.Context(), Order{Path: "/nowhere"}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Exec(Filter{}); ExitCode(err) != CodeNotFound {
		t.Errorf("nothing there: %v", err)
	}
}
