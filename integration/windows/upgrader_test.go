package windows

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/upgrader/upgrader/integration/load"
)

// patience is how long a test waits for a fact.
const patience = 2 * time.Minute

// testUpgrader runs the upgrader itself with servers that take its socket.
func testUpgrader(t *testing.T, w *wine) {
	t.Run("swaps under load", func(t *testing.T) {
		t.Parallel()
		swapsUnderLoad(t, w, 20, "--ready", "notify")
	})
	t.Run("swaps one after the other", func(t *testing.T) {
		t.Parallel()
		swapsUnderLoad(t, w, 5, "--ready", "notify", "--strategy", "exclusive")
	})
	t.Run("sockets by WSADuplicateSocket", func(t *testing.T) {
		t.Parallel()
		swapsUnderLoad(t, w, 5, "--ready", "notify", "--dialect", "systemfd")
	})
	t.Run("the successor fails", func(t *testing.T) { t.Parallel(); successorFails(t, w) })
	t.Run("the server crashes", func(t *testing.T) { t.Parallel(); serverCrashes(t, w) })
	t.Run("the successor crashes on probation", func(t *testing.T) { t.Parallel(); crashOnProbation(t, w) })
	t.Run("the server does not hear", func(t *testing.T) { t.Parallel(); serverIsDeaf(t, w) })
	t.Run("the upgrader is killed", func(t *testing.T) { t.Parallel(); upgraderKilled(t, w) })
	t.Run("a section outlives a crash", func(t *testing.T) { t.Parallel(); sectionOutlives(t, w) })
	t.Run("a section that a file backs outlives all", func(t *testing.T) { t.Parallel(); sectionInFile(t, w) })
	t.Run("memory", func(t *testing.T) { t.Parallel(); testMemory(t, w) })
	t.Run("profile", func(t *testing.T) { t.Parallel(); testProfile(t, w) })
	t.Run("clients are refused honestly", func(t *testing.T) { t.Parallel(); refusedHonestly(t, w) })
	t.Run("services of a file", func(t *testing.T) { t.Parallel(); servicesOfFile(t, w) })
	t.Run("mistakes", func(t *testing.T) { t.Parallel(); mistakes(t, w) })
}

// upgrader is one that runs.
type upgrader struct {
	*guest
	w       *wine
	state   string
	address string
	api     string // of its HTTP API, if there is one
}

// upgrade starts an upgrader that claims a port for the guest.
func (w *wine) upgrade(t *testing.T, flags []string, guest ...string) *upgrader {
	u := &upgrader{w: w, state: w.path(w.folder(t))}
	args := append([]string{"--listen", "127.0.0.1:0", "--ask", "events", "--state-dir", u.state, "--stop-timeout", "60s"}, flags...)
	return w.upgradeTo(t, u, args, w.path(filepath.Join(w.dir, "guest.exe")), guest...)
}

// upgradeTo is upgrade of a program.
func (w *wine) upgradeTo(t *testing.T, u *upgrader, args []string, program string, guest ...string) *upgrader {
	u.guest = w.start(t, "upgrader.exe", append(append(args, "--", program), guest...)...)
	if !slices.Contains(args, "--listen") {
		return u
	}
	_, u.address, _ = strings.Cut(u.awaitPart("\tclaimed\t"), "tcp://")
	u.address = strings.TrimRight(u.address, `"}`)
	return u
}

// ready waits until a generation that was started is ready.
func (u *upgrader) ready() { u.Helper(); u.awaitPart("\tready\t") }

// do runs a client command and wants its exit code.
func (u *upgrader) do(code int, command ...string) *guest {
	u.Helper()
	g := u.w.start(u.T, "upgrader.exe", append(command, "--state-dir", u.state)...)
	g.end(code)
	return g
}

// stop ends it in order.
func (u *upgrader) stop() {
	u.Helper()
	u.do(0, "stop")
	u.end(0)
}

// get is the generation that answers, tried again until somebody does. Who is
// refused fails the test.
func (u *upgrader) get(path string) string {
	u.Helper()
	said, _, _ := strings.Cut(u.body(path), " ")
	return said
}

// body is the whole answer.
func (u *upgrader) body(path string) string {
	u.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + u.address + path)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			u.Errorf("refused: %v", err)
		}
		return ""
	}
	defer r.Body.Close()
	body := make([]byte, 100)
	n, _ := r.Body.Read(body)
	return strings.TrimSpace(string(body[:n]))
}

// swapsUnderLoad swaps while clients ask: nobody is refused, and nothing fails.
func swapsUnderLoad(t *testing.T, w *wine, swaps int, flags ...string) {
	u := w.upgrade(t, flags)
	u.ready()
	l, err := load.Start(load.Config{Address: u.address, Clients: 4, PerConnection: 1, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	more := func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := l.AwaitMore(ctx, 20); err != nil {
			t.Fatal(err)
		}
	}
	for range swaps {
		more()
		u.do(0, "restart")
	}
	more()
	r := l.Stop()
	t.Log(r)
	if r.Failed() > 0 || len(r.Generations) != swaps+1 {
		t.Errorf("%d failed, %d generations answered", r.Failed(), len(r.Generations))
	}
	u.stop()
}

func successorFails(t *testing.T, w *wine) {
	no := filepath.Join(w.folder(t), "no")
	u := w.upgrade(t, []string{"--ready", "notify"}, "-fail", w.path(no))
	u.ready()
	if err := os.WriteFile(no, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	g := u.do(1, "restart")
	g.awaitPart("exited with status 3")
	g.awaitPart("told to fail")
	if got := u.get("/"); got != "gen=1" {
		t.Errorf("answered by %q", got)
	}
	u.stop()
}

func serverCrashes(t *testing.T, w *wine) {
	u := w.upgrade(t, []string{"--ready", "notify"})
	u.ready()
	_ = u.get("/die") // nobody is left to answer
	if got := u.get("/"); got != "gen=2" {
		t.Errorf("answered by %q", got)
	}
	u.ready()
	u.stop()
}

func crashOnProbation(t *testing.T, w *wine) {
	u := w.upgrade(t, []string{"--ready", "notify", "--probation", "10m"})
	u.ready()
	u.do(0, "restart")
	u.awaitPart("\tgone\t")
	_ = u.get("/die")
	u.awaitPart("\trolled-back\t")
	if got := u.get("/"); got != "gen=3" {
		t.Errorf("answered by %q", got)
	}
	u.stop()
}

func serverIsDeaf(t *testing.T, w *wine) {
	u := w.upgrade(t, []string{"--ready", "notify", "--stop-timeout", "300ms"}, "-deaf")
	u.ready()
	u.do(0, "restart")
	u.awaitPart("\tkilled\t")
	u.awaitPart("\tgone\t")
	if got := u.get("/"); got != "gen=2" {
		t.Errorf("answered by %q", got)
	}
	u.do(0, "stop")
}

// upgraderKilled: nothing outlives it unasked.
func upgraderKilled(t *testing.T, w *wine) {
	u := w.upgrade(t, []string{"--ready", "notify"})
	u.ready()
	u.kill()
	u.awaitRefused()
}

// awaitRefused waits until the last process that had the socket is gone.
func (u *upgrader) awaitRefused() {
	u.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", u.address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			_ = c.Close()
		}
		if time.Now().After(end) {
			u.Fatal("the server lives on")
		}
	}
}

// found is what a generation found in the shared memory when it started.
func (u *upgrader) found(generation int) (counter, foreign int) {
	u.Helper()
	return u.readFound(u.awaitPart(fmt.Sprintf("generation %d found ", generation)))
}

func (u *upgrader) readFound(line string) (counter, foreign int) {
	u.Helper()
	_, text, _ := strings.Cut(line, "found ")
	if _, err := fmt.Sscanf(text, "%d foreign %d", &counter, &foreign); err != nil {
		u.Fatalf("%q: %v", line, err)
	}
	return counter, foreign
}

// sectionOutlives: the server creates it, the upgrader keeps it, so that the
// next one finds what was there, after a crash and after a swap.
func sectionOutlives(t *testing.T, w *wine) {
	name := clean(t.Name())
	u := w.upgrade(t, []string{"--ready", "notify", "--shm", "section:" + name}, "-segment", name)
	u.awaitAll("\tready\t", "is kept", "generation 1 found 0 ")
	u.do(1, "restart").awaitPart("--dev")
	_ = u.get("/die")
	if n, foreign := u.found(2); n == 0 || foreign != 0 {
		t.Errorf("after a crash: found %d, foreign %d", n, foreign)
	}
	u.stop()

	u = w.upgrade(t, []string{"--ready", "notify", "--dev", "--shm", "section:" + name + "-dev"}, "-segment", name+"-dev")
	u.awaitAll("\tready\t", "is kept", "generation 1 found 0 ")
	u.do(0, "restart")
	if n, foreign := u.found(2); n == 0 || foreign != 0 {
		t.Errorf("after a swap: found %d, foreign %d", n, foreign)
	}
	u.stop()
}

// sectionInFile: the upgrader creates it, and it is there after everybody was
// killed.
func sectionInFile(t *testing.T, w *wine) {
	name := clean(t.Name())
	shm := "section:" + name + ",size=4096,file=" + w.path(filepath.Join(w.folder(t), "memory"))
	for round := range 2 {
		u := w.upgrade(t, []string{"--ready", "notify", "--shm", shm}, "-segment", name)
		lines := u.awaitAll("\tready\t", "generation 1 found ")
		if none := strings.Contains(lines[1], "found 0 "); none != (round == 0) {
			t.Errorf("round %d: %s", round, lines[1])
		}
		u.do(0, "restart")
		if n, foreign := u.found(2); n == 0 || foreign != 0 {
			t.Errorf("round %d, after a swap: found %d, foreign %d", round, n, foreign)
		}
		u.kill()
		u.awaitRefused()
	}
}

// servicesOfFile: two services of one upgrader are swapped one after the other,
// and stopped together.
func servicesOfFile(t *testing.T, w *wine) {
	dir := w.folder(t)
	text := "defaults: {ask: events, ready: notify, stop-timeout: 60s}\nservices:\n"
	for _, name := range []string{"one", "two"} {
		text += fmt.Sprintf("  %s: {command: ['%s'], listen: '127.0.0.1:0'}\n", name, w.path(filepath.Join(w.dir, "guest.exe")))
	}
	file := filepath.Join(dir, "services.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	u := &upgrader{w: w, state: w.path(dir)}
	u.guest = w.start(t, "upgrader.exe", "--config", w.path(file), "--state-dir", u.state)
	u.ready()
	u.ready()
	u.do(0, "restart", "--all")
	g := u.do(0, "status")
	g.awaitAll("one", "two")
	u.stop()
}

// mistakes are told in a line, with exit code 100.
func mistakes(t *testing.T, w *wine) {
	for said, args := range map[string][]string{
		"--intercept on":    {"--intercept", "on"},
		"--dialect systemd": {"--dialect", "systemd"},
		"--ready accept":    {"--ready", "accept"},
		"--ask shouting":    {"--ask", "shouting"},
		"--user":            {"--umask", "22"},
		"--Server=NAME":     {"--profile", "nfshm", "--shm", "section:x"},
		"--ask events":      {"--unconfirmed", "kill"},
		"no file name":      {"--shm", "section:x,size=1M,file="},
		"--watchdog":        {"--watchdog", "5s"},
		"--daemon":          {"--daemon"},
		"--shm memfd":       {"--shm", "memfd:x,size=1M"},
		"strategy":          {"--shm", "section:x", "--strategy", "overlap"},
	} {
		g := w.start(t, "upgrader.exe", append(args, "--state-dir", w.path(w.folder(t)), "--", "server.exe")...)
		g.awaitPart(said)
		g.end(100)
	}
}
