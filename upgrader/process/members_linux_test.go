package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const twoGenerations = `(sleep 1000 & echo $! >&3; sleep 1000 & echo $! >&3; echo end >&3; wait) & wait`

func TestTree(t *testing.T) {
	g := launch(t, shell(t, twoGenerations))
	a, b := number(t, g.line(t)), number(t, g.line(t))
	g.line(t)
	m := NewMembers(g.leader, "")
	list, err := m.List()
	if err != nil || len(list) != 4 || list[0] != g.leader {
		t.Fatalf("%v, %v; want the leader %v and three more", list, err, g.leader)
	}
	for _, pid := range []int{a, b, g.leader.Pid} {
		if !m.Has(pid) || !slices.Contains(m.Pids(), pid) {
			t.Errorf("%d is no member", pid)
		}
	}
	for _, pid := range []int{os.Getpid(), os.Getppid(), 1, 0, -1} {
		if m.Has(pid) {
			t.Errorf("%d is a member", pid)
		}
	}
	// Whoever is orphaned stays a member.
	if err := m.SignalLeader(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := g.leader.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list, err = m.List(); err != nil || len(list) != 3 || slices.Contains(list, g.leader) {
		t.Errorf("without the leader: %v, %v", list, err)
	}
	if err := m.SignalLeader(syscall.SIGTERM); !isGone(err) {
		t.Errorf("signal to the dead leader: %v", err)
	}
	g.kill(t, m)
}

func TestSignalReachesAll(t *testing.T) {
	g := launch(t, shell(t, twoGenerations))
	for range 3 {
		g.line(t)
	}
	m := NewMembers(g.leader, "")
	if err := m.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := m.WaitEmpty(ctx); err != nil {
		t.Fatal(err)
	}
	g.ended(t)
}

// TestOrphanOfTheGroup: nobody looked before the leader was gone.
func TestOrphanOfTheGroup(t *testing.T) {
	g := launch(t, shell(t, `sleep 1000 & echo $! >&3`))
	pid := number(t, g.line(t))
	if err := g.leader.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	orphaned(t, pid)
	m := NewMembers(g.leader, "")
	if list, err := m.List(); err != nil || len(list) != 1 || list[0].Pid != pid {
		t.Errorf("%v, %v; want %d", list, err, pid)
	}
	g.kill(t, m)
}

// TestDaemonByMarks: it left everything behind but its environment before anybody looked.
func TestDaemonByMarks(t *testing.T) {
	for _, depth := range []int{1, 2} {
		t.Run(strconv.Itoa(depth), func(t *testing.T) {
			instance := fmt.Sprintf("UPGRADER_TEST_INSTANCE=%d.%d", os.Getpid(), depth)
			g := launch(t, self(t, "daemon", "DEPTH="+strconv.Itoa(depth), "UPGRADER_GENERATION=7", instance))
			pid := number(t, g.line(t))
			orphaned(t, pid)
			for _, others := range [][]string{{"UPGRADER_GENERATION=6", instance}, {"UPGRADER_GENERATION=7", instance + "1"}} {
				if NewMembers(Identity{g.leader.Pid, g.leader.Start + 1<<40}, "", others...).Has(pid) {
					t.Errorf("a member of %v", others)
				}
			}
			m := NewMembers(g.leader, "", "UPGRADER_GENERATION=7", instance)
			if !m.Has(pid) {
				t.Errorf("%d is no member", pid)
			}
			g.kill(t, m)
		})
	}
}

// TestSetLeader: the main process is another one than the one that was started.
func TestSetLeader(t *testing.T) {
	instance := fmt.Sprintf("UPGRADER_TEST_INSTANCE=%d.leader", os.Getpid())
	g := launch(t, self(t, "daemon", "DEPTH=2", instance))
	pid := number(t, g.line(t))
	orphaned(t, pid)
	m := NewMembers(g.leader, "")
	id, err := Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	m.SetLeader(id)
	if m.Leader() != id || !m.Has(pid) {
		t.Errorf("leader %v, members %v", m.Leader(), m.Pids())
	}
	g.kill(t, m)
}

// TestKillWhoForks: a tree that grows while it is killed is killed wholly.
func TestKillWhoForks(t *testing.T) {
	// At most 3 x 300 processes, in case that it is not.
	g := launch(t, shell(t, `grow() { i=0; while [ $i -lt 300 ]; do i=$((i+1)); (sleep 1000 & sleep 1000 &); done; }
		grow & grow & grow & sleep 0; echo growing >&3; wait`))
	g.line(t)
	m := NewMembers(g.leader, "")
	eventually(t, "it grows", func() bool { return len(m.Pids()) > 30 })
	g.kill(t, m)
}

func TestKillHeedsContext(t *testing.T) {
	g := launch(t, shell(t, "exec sleep 1000"))
	m := NewMembers(g.leader, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Kill(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	g.kill(t, m)
}

func TestKillNobody(t *testing.T) {
	m := NewMembers(Identity{Pid: 1 << 30, Start: 1}, "", "UPGRADER_TEST_INSTANCE=nobody")
	if err := m.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if empty, err := m.Empty(); !empty || err != nil {
		t.Errorf("empty: %v, %v", empty, err)
	}
}

// TestTorn: of those who end while somebody looks, only who may have been a member counts.
func TestTorn(t *testing.T) {
	parent := func(pid, parent int) stat { return stat{Identity: Identity{Pid: pid, Start: 1}, parent: parent} }
	for _, c := range []struct {
		name     string
		descends bool
		vanished []int
		waited   bool
		want     bool
	}{
		{"nobody", true, nil, true, false},
		{"a stranger", true, []int{70}, false, false},
		{"perhaps a child of ours", true, []int{70}, true, true},
		{"the parent of somebody", true, []int{70, 20}, false, true},
		{"somebody, of a generation that is no child's", false, []int{70}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &Members{descends: c.descends}
			everybody := processes{stats: map[int]stat{30: parent(30, 20), 40: parent(40, 1)}, vanished: c.vanished}
			if got := m.torn(everybody, c.waited); got != c.want {
				t.Errorf("torn: %v", got)
			}
		})
	}
	before := waitedFor()
	if err := exec.Command("true").Run(); err != nil {
		t.Fatal(err)
	}
	if waitedFor() == before {
		t.Error("that a child was waited for is not seen")
	}
}

func TestCgroup(t *testing.T) {
	dir, err := NewCgroup(fmt.Sprintf("upgrader-test-%d", os.Getpid()))
	if errors.Is(err, ErrNoCgroup) {
		t.Skip("no cgroup can be made here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "the cgroup is empty", func() bool { return RemoveCgroup(dir) == nil })
		if _, err := os.Stat(dir); err == nil {
			t.Error("the cgroup is still there")
		}
	})
	// A daemon without marks, that nobody looked at before it had left.
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := shell(t, `echo 0 > "$1"/cgroup.procs && exec "$2"`, dir, path)
	cmd.Env = append(os.Environ(), roleVariable+"=daemon", "DEPTH=2")
	g := launch(t, cmd)
	pid := number(t, g.line(t))
	orphaned(t, pid)
	if NewMembers(g.leader, "").Has(pid) {
		t.Error("found without the cgroup: the test shows nothing")
	}
	m := NewMembers(g.leader, dir)
	if !m.Has(pid) {
		t.Errorf("%d is no member", pid)
	}
	g.kill(t, m)
}

func TestCgroupDir(t *testing.T) {
	const mounts = `21 26 0:20 / /proc rw - proc proc rw
29 28 0:25 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
31 28 0:25 /system.slice /a\040b rw,relatime - cgroup2 cgroup2 rw
`
	for _, c := range []struct {
		mounts, cgroup, want string
	}{
		{mounts, "/", "/sys/fs/cgroup/unified"},
		{mounts, "/user.slice/x", "/sys/fs/cgroup/unified/user.slice/x"},
		{mounts[strings.Index(mounts, "31"):], "/system.slice/x", "/a b/x"},
		{mounts[strings.Index(mounts, "31"):], "/system.slice", "/a b"},
		{mounts[strings.Index(mounts, "31"):], "/system.slice2", ""},
		{mounts[:strings.Index(mounts, "29")], "/", ""},
		{mounts, "/../outside", ""},
	} {
		got, ok := cgroupDir(c.mounts, c.cgroup)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", c.cgroup, got, ok, c.want)
		}
	}
}

func socket(t *testing.T) (*os.File, uint64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return f, info.Sys().(*syscall.Stat_t).Ino
}

func TestInodes(t *testing.T) {
	held, inode := socket(t)
	_, notHeld := socket(t)
	cmd := shell(t, `exec 5<&4; sleep 1000 4<&- & exec 4<&- 5<&-; echo ready >&3; wait`)
	cmd.ExtraFiles = []*os.File{held}
	g := launch(t, cmd)
	g.line(t)
	m := NewMembers(g.leader, "")
	inodes, err := m.Inodes()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := inodes[inode]; !ok || len(inodes) != 1 {
		t.Errorf("inodes %v, want %d", inodes, inode)
	}
	for want, n := range map[bool]uint64{true: inode, false: notHeld} {
		if got, err := m.Holding(n); err != nil || got != want {
			t.Errorf("holding %d: %v, %v; want %v", n, got, err, want)
		}
	}
	g.kill(t, m)
	if got, err := m.Holding(inode); err != nil || got {
		t.Errorf("held by the dead: %v, %v", got, err)
	}
}

// TestHoldingWhileHandedOn: from parent to child, each of which leaves at once, the socket is always held.
func TestHoldingWhileHandedOn(t *testing.T) {
	held, inode := socket(t)
	mark := fmt.Sprintf("UPGRADER_TEST_INSTANCE=%d.holding", os.Getpid())
	script := filepath.Join(t.TempDir(), "relay")
	if err := os.WriteFile(script, []byte(`[ "$1" -gt 0 ] && { sh "$0" $(($1 - 1)) & exit; }; echo done >&3; exec sleep 1000`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := shell(t, `exec sh "$1" 30`, script)
	cmd.Env = append(os.Environ(), mark)
	cmd.ExtraFiles = []*os.File{held}
	g := launch(t, cmd)
	m := NewMembers(g.leader, "", mark)
	if err := g.pipe.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = g.reader.Peek(1) // it is done, or the test has failed
	}()
	looks := 0
	for done := false; !done; looks++ {
		select {
		case <-over:
			done = true
		default:
		}
		if got, err := m.Holding(inode); !got {
			t.Errorf("look %d: held by nobody (%v)", looks, err)
			break
		}
	}
	<-over
	g.line(t)
	g.kill(t, m)
}

func TestHeadless(t *testing.T) {
	held, inode := socket(t)
	cmd := self(t, "headless")
	cmd.ExtraFiles = []*os.File{held}
	g := launch(t, cmd)
	if got := g.line(t); got != "ready" {
		t.Skip("needs a first thread that can leave:", got)
	}
	eventually(t, "the first thread ends", func() bool {
		s, err := readStat(g.leader.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return s.headless
	})
	m := NewMembers(g.leader, "")
	if !g.leader.Alive() || !m.Has(g.leader.Pid) {
		t.Error("a process without its first thread is gone")
	}
	if got, err := m.Holding(inode); err != nil || !got {
		t.Errorf("its sockets are not seen: %v, %v", got, err)
	}
	g.kill(t, m)
}
