package process

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	tail := " 0 0 0 0 0 0 0 0 0 0 20 0 " // fields 8 to 19
	for _, c := range []struct {
		line string
		want stat
		bad  bool
	}{
		{"12 (cat) S 3 4 5 0" + tail + "1 0 777 1 2", stat{Identity: Identity{12, 777}, parent: 3, group: 4, session: 5}, false},
		{"12 (a) b (S 1 2) S 3 4 5 0" + tail + "1 0 777 1 2", stat{Identity: Identity{12, 777}, parent: 3, group: 4, session: 5}, false},
		{"12 (\n)) Z 3 4 5 0" + tail + "1 0 777 0 0", stat{Identity: Identity{12, 777}, parent: 3, group: 4, session: 5, zombie: true, leaving: true}, false},
		{"12 (headless) Z 3 4 5 0" + tail + "2 0 777 0 0", stat{Identity: Identity{12, 777}, parent: 3, group: 4, session: 5, headless: true, leaving: true}, false},
		{"12 (dead) X 3 4 5 0" + tail + "0 0 777 0 0", stat{Identity: Identity{12, 777}, parent: 3, group: 4, session: 5, zombie: true, leaving: true}, false},
		{"12 (ends) R 3 4 5 0" + tail + "1 0 777 0 0", stat{Identity: Identity{12, 777}, parent: 3, group: 4, session: 5, leaving: true}, false},
		{"", stat{}, true},
		{"12 (cat", stat{}, true},
		{"12 (cat) S 3", stat{}, true},
		{"x (cat) S 3 4 5 0" + tail + "1 0 777", stat{}, true},
		{"12 (cat) S 3 4 5 0" + tail + "1 0 x 0", stat{}, true},
	} {
		got, err := parseStat([]byte(c.line))
		if (err != nil) != c.bad || !c.bad && got != c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.line, got, err, c.want)
		}
	}
}

func TestIdentity(t *testing.T) {
	me, err := Self()
	if err != nil || me.Pid != os.Getpid() || !me.Alive() {
		t.Fatalf("self: %+v, %v", me, err)
	}
	for _, pid := range []int{0, -1, 1 << 30} {
		if id, err := Of(pid); !isGone(err) {
			t.Errorf("Of(%d): %+v, %v", pid, id, err)
		}
	}
	g := launch(t, shell(t, "echo ready >&3; exec sleep 1000"))
	g.line(t)
	id, err := Of(g.cmd.Process.Pid)
	if err != nil || id != g.leader || !id.Alive() {
		t.Fatalf("%+v, %v; want %+v", id, err, g.leader)
	}
	other := Identity{Pid: id.Pid, Start: id.Start + 1}
	if other.Alive() {
		t.Error("another start time is another process")
	}
	for name, f := range map[string]func() error{
		"signal": func() error { return other.Signal(syscall.SIGKILL) },
		"pidfd":  func() error { _, err := other.Pidfd(); return err },
		"exe":    func() error { _, err := other.Executable(); return err },
	} {
		if err := f(); !isGone(err) {
			t.Errorf("%s of another process: %v", name, err)
		}
	}
	if !id.Alive() {
		t.Fatal("the wrong one was killed")
	}
	if err := id.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := id.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Not waited for: a zombie, whose pid is there.
	if _, err := readStat(id.Pid); err != nil {
		t.Fatalf("no zombie: %v", err)
	}
	if id.Alive() {
		t.Error("a zombie is alive")
	}
	if _, err := Of(id.Pid); !isGone(err) {
		t.Errorf("a zombie has an identity: %v", err)
	}
	if err := id.Signal(syscall.SIGTERM); !isGone(err) {
		t.Errorf("signal to a zombie: %v", err)
	}
	g.ended(t)
	if err := id.Signal(syscall.SIGTERM); !isGone(err) {
		t.Errorf("signal to nobody: %v", err)
	}
}

func TestWaitHeedsContext(t *testing.T) {
	g := launch(t, shell(t, "exec sleep 1000"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.leader.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	if err := g.leader.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	g.ended(t)
}

func TestPidfd(t *testing.T) {
	g := launch(t, shell(t, "exec sleep 1000"))
	f, err := g.leader.Pidfd()
	if err != nil {
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			t.Skip("pidfds are not permitted here:", err)
		}
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(raw.Control(func(fd uintptr) {
		err = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0)
	}), err); err != nil {
		t.Fatal(err)
	}
	g.ended(t)
}

func TestExecutable(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("needs sleep:", err)
	}
	path := filepath.Join(t.TempDir(), "server")
	copyFile(t, sleep, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	// By way of a shell: executing what was just written may meet a descriptor of ours in a process that is being
	// forked, and fail (text file busy); the shell has none.
	g := launch(t, shell(t, `until "$1" 0; do :; done; echo ready >&3; exec "$1" 1000`, path))
	g.line(t)
	want := Exe{Path: path, Dev: uint64(st.Dev), Ino: st.Ino}
	var got Exe
	eventually(t, "it executes the copy", func() bool {
		got, err = g.leader.Executable()
		if err != nil {
			t.Fatal(err)
		}
		return got == want
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want.Deleted = true
	if got, err = g.leader.Executable(); err != nil || got != want {
		t.Errorf("deleted: %+v, %v; want %+v", got, err, want)
	}
	if err := g.leader.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	g.ended(t)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	r, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(w, r)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
}
