package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// commit adds so many records of client 0 to those that are there.
func commit(t *testing.T, a string, n int) ledgerState {
	t.Helper()
	before := ledgerOf(t, a)
	for i := range n {
		if err := post(t.Context(), a, fmt.Sprintf("/add?client=0&n=%d", before.Last[0]+uint64(i)+1)); err != nil {
			t.Fatal(err)
		}
	}
	return ledgerOf(t, a)
}

func sameRecords(t *testing.T, what string, before, after ledgerState) {
	t.Helper()
	if before.Count != after.Count || before.Sum != after.Sum || !slices.Equal(before.Last, after.Last) {
		t.Errorf("%s: %d records with the checksum %#x became %d with %#x", what, before.Count, before.Sum, after.Count, after.Sum)
	}
}

// rolledBack asks for a swap that must be rolled back with its memory.
func (u *upgrader) rolledBack() verdictReport {
	u.t.Helper()
	stdout, stderr, code := u.run("restart")
	v := u.status().lastVerdict()
	if code != 1 || v.Verdict != "rolled-back" || !strings.Contains(v.Reason, "the memory was restored to snapshot") {
		u.t.Fatalf("restart exited %d, the verdict is %+v\n%s%s", code, v, stdout, stderr)
	}
	return v
}

// A successor writes over all of the segment and dies, before it is ready and
// on probation: code and memory are what they were.
func TestMemoryScribblingSuccessor(t *testing.T) {
	for kind, shm := range segments(t) {
		t.Run(kind, func(t *testing.T) {
			u, s, a := onLedger(t, shm, "--probation", "2m")
			before := commit(t, a, 30)
			s.ledger(t, "-scribble")
			u.rolledBack()
			after := ledgerOf(t, a)
			sameRecords(t, "a successor that scribbled", before, after)
			if after.Found != "saved" {
				t.Errorf("the predecessor's own found the segment %s", after.Found)
			}

			before = commit(t, a, 5)
			s.ledger(t, "")
			generation := u.swap()
			s.ledger(t, "-scribble")              // must not be what comes back
			_ = post(t.Context(), a, "/scribble") // it is the point that no answer comes
			u.await("rolled back", func(r statusReport) error {
				if v := r.lastVerdict(); v.Verdict != "rolled-back" || !strings.Contains(v.Reason, "the memory was restored") || r.serving() <= generation {
					return fmt.Errorf("verdict %+v, generation %d serves", v, r.serving())
				}
				return nil
			})
			sameRecords(t, "scribbled on probation", before, ledgerOf(t, a))
			u.mustCleanShutdown()
		})
	}
}

// A successor that serves on memory which it spoilt is found out by the
// operator's own command.
func TestMemoryValidated(t *testing.T) {
	shm := segments(t)["posix"]
	u, s, a := onLedger(t, shm, "--validate", ledgerBinary()+" -check")
	before := commit(t, a, 30)
	s.ledger(t, "-spoil")
	if v := u.rolledBack(); !strings.Contains(v.Reason, "failed on the memory") || !strings.Contains(v.Reason, "is damaged") {
		t.Errorf("the reason is %q", v.Reason)
	}
	sameRecords(t, "a successor that spoilt a record", before, ledgerOf(t, a))
	s.ledger(t, "")
	u.swap()
	sameRecords(t, "a sound successor", before, ledgerOf(t, a))
	u.mustCleanShutdown()
}

// While a stranger maps the segment it is not restored under its eyes: the
// verdict says who. When it has left, the service comes back as it was.
func TestMemoryStranger(t *testing.T) {
	shm := segments(t)["posix"]
	u, s, a := onLedger(t, shm, "--retry-interval", "50ms", "--retry-max", "1000", "--hold-max", "0")
	before := commit(t, a, 30)
	name, _, _ := strings.Cut(strings.TrimPrefix(shm, "posix:/"), ",")
	stranger := exec.Command(ledgerBinary(), "-hold", "/dev/shm/"+name)
	out, err := stranger.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	leave := func() {
		_ = stranger.Process.Signal(syscall.SIGTERM) // it may be gone already
		_ = stranger.Wait()                          // likewise
	}
	defer leave()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "holding\n" {
		t.Fatalf("%q, %v", line, err)
	}
	s.ledger(t, "-scribble")
	_, _, code := u.run("restart")
	v := u.status().lastVerdict()
	who := "pid " + strconv.Itoa(stranger.Process.Pid) + " (ledger)"
	if code != 2 || v.Verdict != "failed" || !strings.Contains(v.Reason, who) {
		t.Errorf("restart exited %d, the verdict is %+v, want one that names %s", code, v, who)
	}
	leave()
	u.awaitServing()
	sameRecords(t, "after the stranger", before, ledgerOf(t, a))
	u.mustCleanShutdown()
}

// What the policy says of a segment that was left unsaved.
func TestMemoryUnsaved(t *testing.T) {
	t.Run("restore", func(t *testing.T) {
		u, _, a := onLedger(t, segments(t)["memfd"], "--on-unsaved", "restore", "--probation", "0")
		before := commit(t, a, 30)
		u.swap()
		commit(t, a, 10)
		u.killServer()
		sameRecords(t, "restored to the last swap", before, ledgerOf(t, a))
		u.mustCleanShutdown()
	})
	t.Run("refuse", func(t *testing.T) {
		u, _, a := onLedger(t, segments(t)["file"], "--on-unsaved", "refuse", "--retry-max", "1", "--retry-interval", "10ms")
		commit(t, a, 3)
		if err := syscall.Kill(u.awaitServing().server().Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if code := u.wait(); code != 111 || !strings.Contains(u.output(), "--on-unsaved is refuse") {
			t.Errorf("it exited %d", code)
		}
		u.mustLeaveNothing()
	})
	t.Run("left without saving", func(t *testing.T) {
		shm := segments(t)["memfd"]
		u, s, a := onLedger(t, shm)
		s.ledger(t, "-careless")
		u.swap()
		before := commit(t, a, 3)
		u.swap()
		after := ledgerOf(t, a)
		sameRecords(t, "kept as it was", before, after)
		if after.Found != "unsaved" {
			t.Errorf("the successor found the segment %s", after.Found)
		}
		u.mustCleanShutdown()
	})
}

// A swap that cannot be is refused before the server is told anything.
func TestMemoryRefusedSwaps(t *testing.T) {
	refused := func(t *testing.T, u *upgrader, a, why string) {
		t.Helper()
		before := ledgerOf(t, a)
		if v := u.mustRollBack(); !strings.Contains(v.Reason, why) {
			t.Errorf("the reason is %q, want %q in it", v.Reason, why)
		}
		after := ledgerOf(t, a)
		if sameRecords(t, why, before, after); before.Pid != after.Pid {
			t.Errorf("pid %d served, now %d does", before.Pid, after.Pid)
		}
	}
	t.Run("schema", func(t *testing.T) {
		u, s, a := onLedger(t, segments(t)["memfd"])
		s.ledger(t, "-schema 7", "upgrader-schema:7;")
		u.swap()
		commit(t, a, 3)
		s.ledger(t, "-schema 8", "upgrader-schema:8;")
		refused(t, u, a, "schema 7")
		s.ledger(t, "")
		refused(t, u, a, "declares none")
		s.ledger(t, "-schema 8", "upgrader-schema:8,7;")
		u.swap()
		u.mustCleanShutdown()
	})
	t.Run("marked for removal", func(t *testing.T) {
		shm := segments(t)["sysv"]
		u, _, a := onLedger(t, shm)
		key, _ := strconv.ParseInt(strings.TrimPrefix(strings.TrimSuffix(shm, ",size=1M"), "sysv:"), 0, 64) // it is ours
		id, err := unix.SysvShmGet(int(key), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(bridgeOf(int(key), id)) }) // nobody finds it by the key any more
		refused(t, u, a, "removed")
		u.mustCleanShutdown()
	})
	t.Run("no room for a snapshot", func(t *testing.T) {
		u, s, a := onLedger(t, segments(t)["memfd"])
		if err := os.RemoveAll(s.path("snapshots")); err != nil {
			t.Fatal(err)
		}
		s.write(t, "snapshots", "in the way", 0o600)
		refused(t, u, a, "snapshot")
		u.mustCleanShutdown()
	})
}

// What cannot be shared is refused at the start, in one line.
func TestMemoryRefusedStarts(t *testing.T) {
	all := segments(t)
	u, s, _ := onLedger(t, all["posix"])
	named, _, _ := strings.Cut(all["posix"], ",")
	other := s.write(t, "other", strings.Repeat("x", 5000), 0o600)
	for _, c := range []struct {
		name  string
		flags []string
		code  int
		text  string
	}{
		{"two upgraders", []string{"--shm", named}, 111, "held by another upgrader"},
		{"another size", []string{"--shm", "file:" + other + ",size=4096"}, 111, "another size"},
		{"no such segment", []string{"--shm", "file:" + s.path("nothing")}, 111, "add ,size=SIZE"},
		{"no segment", []string{"--shm", "nonsense"}, 100, "--shm"},
		{"overlap", []string{"--shm", named, "--strategy", "overlap"}, 100, "exclusive only"},
		{"policy", []string{"--shm", named, "--on-unsaved", "hope"}, 100, "keep, restore, refuse"},
		{"backups of nothing", []string{"--backup-interval", "1s"}, 100, "give --shm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			flags := append([]string{"--state-dir", s.path("second")}, c.flags...)
			_, stderr, code := run(t, runOptions{dir: s.dir}, append(flags, "--", ledgerBinary())...)
			if code != c.code || !strings.Contains(stderr, c.text) || strings.Count(strings.TrimSpace(stderr), "\n") != 0 {
				t.Errorf("exit status %d, want %d, and one line with %q: %s", code, c.code, c.text, stderr)
			}
		})
	}
	u.mustCleanShutdown()
}

// snapshotReport is what `snapshot --json` prints of one.
type snapshotReport struct {
	Number  uint64 `json:"number"`
	Path    string `json:"path"`
	State   string `json:"state"`
	Segment string `json:"segment"`
	Error   string `json:"error"`
}

// snapshots runs a command that prints some.
func (u *upgrader) snapshots(arguments ...string) (all []snapshotReport) {
	u.t.Helper()
	stdout, stderr, code := u.run2("snapshot", append(arguments, "--json")...)
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || code != 0 {
		u.t.Fatalf("snapshot %v exited %d: %v: %s%s", arguments, code, err, stdout, stderr)
	}
	return all
}

// run2 is run for a command of two words.
func (u *upgrader) run2(first string, arguments ...string) (stdout, stderr string, code int) {
	u.t.Helper()
	all := append([]string{first, arguments[0], "--state-dir", u.state}, arguments[1:]...)
	return run(u.t, runOptions{dir: u.options.scratch.dir}, all...)
}

func TestSnapshotCommands(t *testing.T) {
	u, s, a := onLedger(t, segments(t)["memfd"], "--backup-keep", "2", "--probation", "0")
	if all := u.snapshots("list"); len(all) != 0 {
		t.Errorf("before the first: %+v", all)
	}
	before := commit(t, a, 20)
	u.swap()
	var saved snapshotReport
	eventually(t, "the swap's snapshot is there", func() error {
		all := u.snapshots("list")
		if len(all) != 1 || all[0].State != "saved" || all[0].Error != "" {
			return fmt.Errorf("%+v", all)
		}
		saved = all[0]
		return nil
	})
	commit(t, a, 10)
	if made := u.snapshots("create"); len(made) != 1 || made[0].Number != saved.Number+1 || made[0].State != "live" {
		t.Errorf("created: %+v", made)
	}
	if stdout, _, code := u.run2("snapshot", "verify"); code != 0 || strings.Count(stdout, "sound: ") != 2 {
		t.Errorf("verify exited %d: %s", code, stdout)
	}
	// Back to the swap: the records since are gone, by wish.
	if stdout, stderr, code := u.run2("snapshot", "restore", strconv.FormatUint(saved.Number, 10)); code != 0 {
		t.Fatalf("restore exited %d: %s%s", code, stdout, stderr)
	}
	sameRecords(t, "restored by hand", before, ledgerOf(t, a))
	if _, stderr, code := u.run2("snapshot", "restore", "77"); code != 2 || !strings.Contains(stderr, "no snapshot 77") {
		t.Errorf("restore of nothing exited %d: %s", code, stderr)
	}
	eventually(t, "no more than two are kept", func() error {
		if all := u.snapshots("list"); len(all) != 2 {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
	u.mustCleanShutdown()

	// What is on the disk can be looked at without an upgrader.
	dir := s.path("snapshots")
	paths, _ := filepath.Glob(filepath.Join(dir, "*.snap")) // the pattern is right
	if len(paths) != 2 {
		t.Fatalf("%v", paths)
	}
	f, err := os.OpenFile(paths[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 9000); err != nil {
		t.Fatal(err)
	}
	_ = f.Close() // it was written
	stdout, _, code := run(t, runOptions{dir: s.dir}, "snapshot", "verify", "--backup-dir", dir)
	if code != 1 || !strings.Contains(stdout, "corrupt") || strings.Count(stdout, "sound: ") != 1 {
		t.Errorf("verify exited %d: %s", code, stdout)
	}
	if stdout, _, code = run(t, runOptions{dir: s.dir}, "snapshot", "list", "--backup-dir", dir); code != 0 || !strings.Contains(stdout, "memfd:") {
		t.Errorf("list exited %d: %s", code, stdout)
	}
}

// Snapshots by the clock, and the words of a swap in the log.
func TestMemoryEvents(t *testing.T) {
	u, s, a := onLedger(t, segments(t)["memfd"], "--backup-interval", "20ms")
	commit(t, a, 3)
	eventually(t, "a snapshot by the clock", func() error {
		if len(u.snapshots("list")) == 0 {
			return fmt.Errorf("none")
		}
		return nil
	})
	u.swap()
	u.mustCleanShutdown()
	text, err := os.ReadFile(s.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, word := range []string{"swapping", "save", "confirm", "snapshot", "restore", "committed"} {
		i := slices.IndexFunc(strings.Split(string(text[at:]), "\n"), func(line string) bool {
			fields := strings.Fields(line)
			return len(fields) > 3 && fields[3] == word
		})
		if word == "snapshot" { // it comes when it is on the disk
			continue
		}
		if i < 0 {
			t.Fatalf("no %q after that in\n%s", word, text)
		}
		for range i + 1 {
			at += strings.IndexByte(string(text[at:]), '\n') + 1
		}
	}
}
