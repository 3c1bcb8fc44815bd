package windows

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testMemory: the memory goes back together with the code, whoever created it
// and whatever backs it.
func testMemory(t *testing.T, w *wine) {
	for what, spec := range map[string]string{
		"the server's":    "section:%s",
		"the upgrader's":  "section:%s,size=4096",
		"a file backs it": "section:%s,size=4096,file=%s",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := clean(t.Name())
			m := remembering{name: name, flags: []string{"--ready", "notify", "--dev"}, guest: []string{"-segment", name}}
			m.shm = fmt.Sprintf(spec, name, w.path(filepath.Join(w.folder(t), "memory")))
			if !strings.Contains(spec, "file=") {
				m.shm = fmt.Sprintf(spec, name)
			}
			scribbled(t, w, m)
		})
	}
	t.Run("by the bridge page", func(t *testing.T) {
		t.Parallel()
		name := clean(t.Name())
		scribbled(t, w, remembering{name: name, shm: "section:" + name + ",size=4096", flags: []string{"--ready", "notify", "--dev"}, guest: []string{"-attach"}})
	})
	t.Run("snapshots", func(t *testing.T) { t.Parallel(); snapshots(t, w) })
	t.Run("validated", func(t *testing.T) { t.Parallel(); validated(t, w) })
	t.Run("restored after a crash", func(t *testing.T) { t.Parallel(); unsavedRestored(t, w) })
	t.Run("another schema", func(t *testing.T) { t.Parallel(); otherSchema(t, w) })
	t.Run("two upgraders", func(t *testing.T) { t.Parallel(); lockedSegment(t, w) })
}

// remembering is an upgrader with a server that counts in shared memory.
type remembering struct {
	name, shm    string
	flags, guest []string

	*upgrader
	program string // the file that is swapped
}

// begin starts it on a copy of the program.
func (m *remembering) begin(t *testing.T, w *wine, program string) {
	m.upgrader = &upgrader{guest: &guest{T: t}, w: w, state: w.path(w.folder(t))}
	m.program = filepath.Join(w.folder(t), "server.exe")
	m.deploy(program)
	args := append([]string{"--listen", "127.0.0.1:0", "--ask", "events", "--state-dir", m.state, "--stop-timeout", "60s", "--shm", m.shm}, m.flags...)
	w.upgradeTo(t, m.upgrader, args, w.path(m.program), m.guest...)
}

// deploy replaces the program's file: on Windows one that runs can be renamed,
// not overwritten.
func (m *remembering) deploy(program string) {
	old := m.program + ".old"
	_ = os.Remove(old)
	if err := os.Rename(m.program, old); err != nil && !os.IsNotExist(err) {
		m.Fatal(err)
	}
	from, err := os.Open(filepath.Join(m.w.dir, program))
	if err != nil {
		m.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(m.program, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err == nil {
		_, err = io.Copy(to, from)
	}
	if err == nil {
		err = to.Close()
	}
	if err != nil {
		m.Fatal(err)
	}
}

// answers reports it when another one answers.
func (u *upgrader) answers(generation, release string) {
	u.Helper()
	if got := u.body("/"); !strings.HasPrefix(got, generation+" ") || !strings.HasSuffix(got, release) {
		u.Errorf("answered by %q, not by %s of %s", got, generation, release)
	}
}

// left waits until a generation has left the memory, and another one was given
// it, for what the first one left, and reports it if the other found something
// else. Their lines may come in any order.
func (u *upgrader) left(by, to int) (counter int) {
	u.Helper()
	lines := u.awaitAll(fmt.Sprintf("generation %d left ", by), fmt.Sprintf("generation %d found ", to))
	_, text, _ := strings.Cut(lines[0], "left ")
	if _, err := fmt.Sscanf(text, "%d", &counter); err != nil {
		u.Fatalf("%q: %v", lines[0], err)
	}
	if n, foreign := u.readFound(lines[1]); n != counter || foreign != 0 {
		u.Errorf("generation %d left %d, generation %d found %d, %d foreign", by, counter, to, n, foreign)
	}
	return counter
}

// scribbled: a successor that writes nonsense and dies is rolled back, memory
// and code. Clients wait.
func scribbled(t *testing.T, w *wine, m remembering) {
	m.begin(t, w, "guest.exe")
	m.awaitAll("\tready\t", "generation 1 found 0 ")
	m.deploy("scribbler.exe")
	m.do(1, "restart").awaitPart("the memory was restored to snapshot 1")
	m.left(1, 3)
	m.answers("gen=3", "first release")
	m.deploy("second.exe")
	m.do(0, "restart")
	m.left(3, 4)
	m.answers("gen=4", "second release")
	m.stop()
}

// snapshots on demand, by the clock, and put back.
func snapshots(t *testing.T, w *wine) {
	name := clean(t.Name())
	dir := w.folder(t)
	m := remembering{shm: "section:" + name, guest: []string{"-segment", name}, flags: []string{"--ready", "notify", "--dev", "--backup-dir", w.path(dir)}}
	m.begin(t, w, "guest.exe")
	m.awaitAll("\tready\t", "is kept")
	m.do(0, "snapshot", "create").awaitPart("section:" + name)
	m.do(0, "snapshot", "list").awaitPart("section-")
	m.do(0, "snapshot", "verify").awaitPart("sound:")
	m.do(0, "restart") // its snapshot is number 2
	before := m.left(1, 2)
	m.do(0, "snapshot", "restore", "2").awaitPart("committed")
	lines := m.awaitAll("generation 2 left ", "generation 3 found ")
	if n, foreign := m.readFound(lines[1]); n != before || foreign != 0 {
		t.Errorf("restored to %d, %d foreign; the snapshot has %d: %s", n, foreign, before, lines[0])
	}
	list, err := filepath.Glob(filepath.Join(dir, "*.snap"))
	if err != nil || len(list) != 3 {
		t.Errorf("snapshots %q, %v", list, err)
	}
	if err := os.WriteFile(list[0], []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.do(1, "snapshot", "verify").awaitPart("refused:")
	m.stop()

	m = remembering{shm: "section:" + name + "-clock", guest: []string{"-segment", name + "-clock"}, flags: []string{"--ready", "notify", "--backup-interval", "100ms"}}
	m.begin(t, w, "guest.exe")
	m.awaitPart("\tsnapshot\t")
	m.stop()
}

// validated: the operator's command decides, before a start and before a commit.
func validated(t *testing.T, w *wine) {
	name := clean(t.Name())
	bad := filepath.Join(w.folder(t), "bad")
	m := remembering{shm: "section:" + name, guest: []string{"-segment", name}, flags: []string{"--ready", "notify", "--dev", "--validate", "if exist " + w.path(bad) + " (echo unsound memory& exit 1)"}}
	m.begin(t, w, "guest.exe")
	m.awaitAll("\tready\t", "is kept")
	m.do(0, "restart")
	if err := os.WriteFile(bad, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m.do(1, "restart").awaitPart("unsound memory")
	m.answers("gen=4", "first release")
	m.stop()
}

// unsavedRestored: what a crash left unsaved is put back as it was saved last.
func unsavedRestored(t *testing.T, w *wine) {
	name := clean(t.Name())
	m := remembering{shm: "section:" + name, guest: []string{"-segment", name}, flags: []string{"--ready", "notify", "--dev", "--on-unsaved", "restore"}}
	m.begin(t, w, "guest.exe")
	m.awaitAll("\tready\t", "is kept", "generation 1 found 0 ")
	m.do(0, "restart")
	left := m.left(1, 2)
	_ = m.get("/die")
	if n, foreign := m.found(3); n != left || foreign != 0 {
		t.Errorf("restored to %d, %d foreign; %d were saved", n, foreign, left)
	}
	m.stop()
}

// otherSchema: a successor that does not declare the schema is refused before
// its predecessor notices.
func otherSchema(t *testing.T, w *wine) {
	name := clean(t.Name())
	m := remembering{shm: "section:" + name + ",size=4096", guest: []string{"-attach"}, flags: []string{"--ready", "notify", "--dev"}}
	m.begin(t, w, "schema1.exe")
	m.awaitAll("attached fresh", "\tready\t")
	m.do(0, "restart")
	m.awaitPart("attached saved")
	m.deploy("schema2.exe")
	m.do(1, "restart").awaitPart("schema")
	m.answers("gen=2", "first release")
	m.stop()
}

// lockedSegment: one upgrader at a time.
func lockedSegment(t *testing.T, w *wine) {
	name := clean(t.Name())
	m := remembering{shm: "section:" + name + ",size=4096", guest: []string{"-segment", name}, flags: []string{"--ready", "notify"}}
	m.begin(t, w, "guest.exe")
	m.ready()
	g := w.start(t, "upgrader.exe", "--state-dir", w.path(w.folder(t)), "--ask", "events", "--shm", m.shm, "--", w.path(m.program))
	g.awaitPart("held by another upgrader of pid ")
	g.end(111)
	m.stop()
}
