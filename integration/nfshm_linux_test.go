package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// loader is a scratch folder of a server that behaves as NFPluginLoader does.
type loader struct {
	*scratch
	t       *testing.T
	id      string
	key     int
	address string
}

const loaderSize = 1 << 20

// newLoader puts one there, with an ID that nobody else has, and removes its
// segment in the end.
func newLoader(t *testing.T) *loader {
	t.Helper()
	l := &loader{scratch: newScratch(t, 0), t: t, address: address(t)}
	zone, kind, instance := 1+rand.IntN(4095), 1+rand.IntN(255), rand.IntN(256)
	l.id = fmt.Sprintf("7.%d.%d.%d", zone, kind, instance)
	l.key = 7<<28 | zone<<16 | kind<<8 | instance
	l.release()
	l.write(t, "nf.conf", fmt.Sprintf("address %s\nsize %d\n", l.address, loaderSize), 0o644)
	t.Cleanup(func() {
		if id, err := unix.SysvShmGet(l.key, 0, 0); err == nil {
			_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // it is ours alone
			_ = os.Remove(bridgeOf(l.key, id))
		}
	})
	return l
}

// release puts a new binary there, that behaves as these lines say.
func (l *loader) release(lines ...string) {
	l.t.Helper()
	binary, err := os.ReadFile(guestBinary())
	if err != nil {
		l.t.Fatal(err)
	}
	if len(lines) > 0 {
		binary = append(binary, "\n# nf.conf\n"+strings.Join(lines, "\n")+"\n"...)
	}
	l.write(l.t, "NFPluginLoader", string(binary), 0o755)
}

// command is the command line, as an operator writes it.
func (l *loader) command(more ...string) []string {
	return append([]string{l.path("NFPluginLoader"), "--Server=GameServer", "--ID=" + l.id, "--Config=" + l.dir, "--Game=Test"}, more...)
}

func (l *loader) pidFile() string { return l.path("GameServer_" + l.id + ".pid") }

// run starts the program by hand, in a process group of its own, and does not
// wait for it.
func (l *loader) run(more ...string) *exec.Cmd {
	l.t.Helper()
	argv := l.command(more...)
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = l.dir
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = c.Wait() // how it ends is seen from its deeds
		close(done)
	}()
	l.t.Cleanup(func() {
		_ = c.Process.Kill() // it may be gone already
		<-done
	})
	return c
}

// supervise starts an upgrader around it.
func (l *loader) supervise(flags ...string) *upgrader {
	l.t.Helper()
	u := start(l.t, options{scratch: l.scratch, command: l.command("--Restart", "-d"), flags: append([]string{"--profile", "nfshm", "--settle", "5ms", "--backup-dir", l.path("snapshots")}, flags...)})
	u.awaitServing()
	return u
}

// mustNamePid wants the pid file to name the server that serves.
func (l *loader) mustNamePid(u *upgrader) {
	l.t.Helper()
	eventually(l.t, "the pid file names the server", func() error {
		text, err := os.ReadFile(l.pidFile())
		if err != nil {
			return err
		}
		if want := strconv.Itoa(u.awaitServing().server().Pid); string(text) != want {
			return fmt.Errorf("%q, not %q", text, want)
		}
		return nil
	})
}

// awaitMemory waits until the segment that the server made is shared.
func (u *upgrader) awaitMemory() {
	u.t.Helper()
	u.await("the segment is shared", func(s statusReport) error {
		if s.Segment.State == "" || s.serving() == 0 {
			return fmt.Errorf("%+v", s.Segment)
		}
		return nil
	})
}

// The program as it is, with the command line of its operators: swaps under
// load, failures of every kind, a full stop.
func TestNFShm(t *testing.T) {
	l := newLoader(t)
	u := l.supervise("--probation", "0")
	if s := ledgerOf(t, l.address); s.Found != "created" {
		t.Errorf("the first generation's segment was %s", s.Found)
	}
	l.mustNamePid(u)
	u.awaitMemory()
	w := startWriters(t, l.address, 3)
	w.awaitMore(20)
	for range amount("INTEGRATION_MEMORY_SWAPS", 4) {
		u.swap()
		if s := ledgerOf(t, l.address); s.Found != "resumed" {
			t.Errorf("generation %s: %s", s.Generation, s.Found)
		}
		l.mustNamePid(u)
		w.awaitMore(20)
	}
	u.killServer()
	w.awaitMore(20)
	u.kill()
	w.awaitMore(5) // the server does not mind
	u = u.again()
	u.await("the adopted server was swapped", func(s statusReport) error {
		if v := s.lastVerdict(); s.State != "serving" || v.Verdict != "committed" || v.To != s.serving() {
			return fmt.Errorf("state %s, %+v", s.State, v)
		}
		return nil
	})
	w.awaitMore(20)
	w.mustBeAll()

	before := commit(t, l.address, 20)
	for _, c := range []struct{ conf, why string }{
		{"before 0", "exited with status 0 before it was ready"},
		{"before 255", "exited with status 255 before it was ready"},
		{"size " + strconv.Itoa(2*loaderSize), "exited with status 255 before it was ready"},
		{"scribble yes", "exited with status 0 before it was ready"},
	} {
		l.release(c.conf)
		if v := u.rolledBack(); !strings.Contains(v.Reason, c.why) {
			t.Errorf("%s: %+v", c.conf, v)
		}
		sameRecords(t, c.conf, before, ledgerOf(t, l.address))
		l.mustNamePid(u)
	}
	l.release()
	u.swap()
	sameRecords(t, "after the bad releases", before, ledgerOf(t, l.address))
	u.mustCleanShutdown()
	if _, err := os.Stat(l.path("GameServer_" + l.id + ".db")); err != nil {
		t.Errorf("the full stop did not save: %v", err)
	}
}

// The segment is looked at before anything is told to quit.
func TestNFShmLooksFirst(t *testing.T) {
	l := newLoader(t)
	u := l.supervise("--probation", "0")
	u.awaitMemory()
	before := commit(t, l.address, 10)
	refused := func(why string) {
		t.Helper()
		if v := u.mustRollBack(); !strings.Contains(v.Reason, why) {
			t.Errorf("the reason is %q, want %q in it", v.Reason, why)
		}
		after := ledgerOf(t, l.address)
		if sameRecords(t, why, before, after); before.Pid != after.Pid {
			t.Errorf("pid %d served, now %d does", before.Pid, after.Pid)
		}
	}
	id, err := unix.SysvShmGet(l.key, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	segment, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	header := func(v uint32) { binary.LittleEndian.PutUint32(segment[88:], v) }
	header(100002)
	refused("version 100002")
	header(100001)
	if err := unix.SysvShmDetach(segment); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
		t.Fatal(err)
	}
	refused("removed")
	u.mustCleanShutdown()
	_ = os.Remove(bridgeOf(l.key, id)) // of the segment that is gone
}

// A server that was started by hand is taken over by its pid file, memory and
// all; whoever else the file may name is left alone.
func TestNFShmTakeover(t *testing.T) {
	for _, way := range []string{"--Start", "--Restart -d"} {
		t.Run(way, func(t *testing.T) {
			l := newLoader(t)
			by := l.run(strings.Fields(way)...)
			before := commit(t, l.address, 20)
			if way == "--Start" && before.Pid != by.Process.Pid {
				t.Fatalf("pid %d serves, %d was started", before.Pid, by.Process.Pid)
			}
			u := l.supervise("--probation", "0")
			v := u.await("taken over", func(s statusReport) error {
				if v := s.lastVerdict(); v.Verdict != "committed" || v.To != s.serving() {
					return fmt.Errorf("%+v", v)
				}
				return nil
			}).lastVerdict()
			if want := fmt.Sprintf("takeover of pid %d", before.Pid); v.Asked != want {
				t.Errorf("asked by %q, want %q", v.Asked, want)
			}
			after := ledgerOf(t, l.address)
			sameRecords(t, "taken over", before, after)
			if after.Found != "resumed" || after.Pid == before.Pid {
				t.Errorf("pid %d found the segment %s", after.Pid, after.Found)
			}
			if err := syscall.Kill(before.Pid, 0); !errors.Is(err, syscall.ESRCH) && !isZombie(before.Pid) {
				t.Errorf("pid %d is still there: %v", before.Pid, err)
			}
			l.mustNamePid(u)
			u.swap()
			sameRecords(t, "swapped", before, ledgerOf(t, l.address))
			u.mustCleanShutdown()
		})
	}
	for name, text := range map[string]func(stranger int) string{
		"a stranger": strconv.Itoa, "zero": func(int) string { return "0" }, "one": func(int) string { return "1" },
		"nothing": func(int) string { return "" }, "garbage": func(int) string { return "x" }, "a group": func(n int) string { return "-" + strconv.Itoa(n) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoader(t)
			stranger := exec.Command("sleep", "1000")
			stranger.Args[0] = l.path("NFPluginLoader") // it even calls itself so
			stranger.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := stranger.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = stranger.Process.Kill() // it may be gone already
				_ = stranger.Wait()
			}()
			l.write(t, "GameServer_"+l.id+".pid", text(stranger.Process.Pid), 0o644)
			u := l.supervise()
			commit(t, l.address, 1)
			l.mustNamePid(u)
			if isZombie(stranger.Process.Pid) {
				t.Error("the stranger was ended")
			}
			_ = stranger.Process.Kill() // nothing is to be left
			u.mustCleanShutdown()
		})
	}
}

func isZombie(pid int) bool {
	p, there := processes()[pid]
	return !there || p.state == "Z"
}

// Operators start the program by hand beside a supervised one: that is noticed
// at once, and nobody is refused.
func TestNFShmOutsider(t *testing.T) {
	for name, way := range map[string]string{"restart": "--Restart", "as a daemon": "--Restart -d", "start": "--Start", "on probation": "--Restart"} {
		t.Run(name, func(t *testing.T) {
			l := newLoader(t)
			probation := "0"
			if name == "on probation" {
				probation = "2m"
			}
			u := l.supervise("--probation", probation, "--retry-interval", "10ms", "--retry-max", "1000")
			u.awaitMemory()
			if name == "on probation" {
				u.swap()
			}
			w := startWriters(t, l.address, 2)
			w.awaitMore(20)
			before := u.awaitServing().serving()
			if way == "--Start" { // its own check of the pid file is passed by that
				if err := os.Remove(l.pidFile()); err != nil {
					t.Fatal(err)
				}
			}
			by := l.run(strings.Fields(way)...)
			u.await("our own serves again", func(s statusReport) error {
				swapped := probation != "0" && s.State == "probation" // the outsider was noticed before it ended ours
				if s.serving() <= before || s.State != "serving" && !swapped {
					return fmt.Errorf("state %s, generation %d serves", s.State, s.serving())
				}
				return nil
			})
			eventually(t, "the outsider is gone", func() error {
				if !isZombie(by.Process.Pid) {
					return fmt.Errorf("pid %d is there", by.Process.Pid)
				}
				if n := loaders(l); n != 1 {
					return fmt.Errorf("%d of them run", n)
				}
				return nil
			})
			w.awaitMore(20)
			l.mustNamePid(u)
			w.mustBeAll()
			if !strings.Contains(u.output(), "somebody else started this server") {
				t.Error("nothing was said of it")
			}
			u.mustCleanShutdown()
		})
	}
}

// loaders counts the processes of a loader's program.
func loaders(l *loader) (n int) {
	for pid := range processes() {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == l.path("NFPluginLoader") {
			n++
		}
	}
	return n
}

// When nothing serves for too long clients are refused, until something does.
func TestNFShmHold(t *testing.T) {
	l := newLoader(t)
	u := l.supervise("--probation", "0", "--hold-max", "300ms", "--retry-interval", "50ms", "--retry-max", "100000")
	before := commit(t, l.address, 10)
	l.write(t, "nf.conf", fmt.Sprintf("address %s\nsize %d\nbefore 0\n", l.address, loaderSize), 0o644)
	if err := syscall.Kill(u.awaitServing().server().Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "clients are refused", func() error {
		c, err := net.Dial("tcp", l.address)
		if err == nil {
			_ = c.Close() // it waits in a queue
			return errors.New("accepted")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		return nil
	})
	l.write(t, "nf.conf", fmt.Sprintf("address %s\nsize %d\n", l.address, loaderSize), 0o644)
	sameRecords(t, "when it serves again", before, ledgerOf(t, l.address))
	u.mustCleanShutdown()
}

// What the profile cannot be is refused in one line, before anything is
// started.
func TestNFShmRefused(t *testing.T) {
	l := newLoader(t)
	for _, c := range []struct {
		name    string
		flags   []string
		command []string
		text    string
	}{
		{"another profile", []string{"--profile", "nginx"}, l.command(), "want nfshm"},
		{"no ID", []string{"--profile", "nfshm"}, []string{l.path("NFPluginLoader"), "--Server=A"}, "--ID"},
		{"its own stop", []string{"--profile", "nfshm"}, l.command("--Stop"), "upgrader restart, reload or stop"},
		{"a fresh segment", []string{"--profile", "nfshm"}, l.command("--Init"), "throw the memory away"},
		{"overlap", []string{"--profile", "nfshm", "--strategy", "overlap"}, l.command(), "exclusive"},
		{"a segment of its own", []string{"--profile", "nfshm", "--shm", "sysv:5"}, l.command(), "computes the segment"},
		{"an address", []string{"--profile", "nfshm", "--listen", "8080"}, l.command(), "takes no sockets"},
		{"no interception", []string{"--profile", "nfshm", "--intercept", "off"}, l.command(), "takes the bind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			flags := append([]string{"--state-dir", l.path("state")}, c.flags...)
			_, stderr, code := run(t, runOptions{dir: l.dir}, append(append(flags, "--"), c.command...)...)
			if code != 100 || !strings.Contains(stderr, c.text) || strings.Count(strings.TrimSpace(stderr), "\n") != 0 {
				t.Errorf("exit status %d, want 100, and one line with %q: %s", code, c.text, stderr)
			}
		})
	}
}

// A predecessor that does not react to its signal is killed, and its memory
// lives on.
func TestNFShmDeaf(t *testing.T) {
	l := newLoader(t)
	l.release("deaf yes")
	u := l.supervise("--probation", "0", "--stop-timeout", "200ms")
	u.awaitMemory()
	before := commit(t, l.address, 10)
	l.release()
	u.swap()
	sameRecords(t, "killed", before, ledgerOf(t, l.address))
	if !strings.Contains(u.output(), "it did not quit in time") {
		t.Error("nobody was killed")
	}
	u.mustCleanShutdown()
}
