package windows

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wine is a prefix of its own with everything built.
type wine struct {
	dir   string
	ports atomic.Int32 // given out
}

func newWine(t *testing.T) *wine {
	if os.Getenv("UPGRADER_TEST_WINE") != "1" {
		t.Skip("UPGRADER_TEST_WINE=1 is not set")
	}
	compiler := "x86_64-w64-mingw32-g++-posix"
	if _, err := exec.LookPath(compiler); err != nil {
		compiler = "x86_64-w64-mingw32-g++"
	}
	for _, tool := range []string{"sh", "go", "wine", "wineboot", "x86_64-w64-mingw32-gcc", compiler} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	w := &wine{dir: os.Getenv("UPGRADER_TEST_WINE_DIR")} // where a prefix is kept for the next run, which takes long to make
	kept := w.dir != ""
	if !kept {
		w.dir = t.TempDir()
	}
	script := func(ctx context.Context, what string) {
		cmd := exec.CommandContext(ctx, "testdata/wine.sh", what, w.dir)
		cmd.WaitDelay = time.Second // its server may keep our pipe
		if out, err := cmd.CombinedOutput(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			t.Fatalf("wine.sh %s: %v\n%s", what, err, out)
		}
	}
	if !kept {
		t.Cleanup(func() { script(context.Background(), "stop") }) // before the directory goes
	}
	script(t.Context(), "start")
	build := func(name string, args ...string) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	build("go", "build", "-o", w.dir, "../../cmd/upgrader", "./testdata/guest", "./testdata/asked", "./testdata/asking", "./testdata/holding", "./testdata/web")
	for _, of := range []string{"winevents", "shmbridge"} {
		build("go", "test", "-c", "-o", filepath.Join(w.dir, of+".test.exe"), "../../"+of)
	}
	build(compiler, "-std=c++17", "-O2", "-Wall", "-static", "-o", filepath.Join(w.dir, "peer.exe"), "testdata/peer.cpp", "-lws2_32")
	w.release(t, "second.exe", "first release    ", "second release   ")
	w.release(t, "scribbler.exe", "first release    ", "scribbling one   ")
	w.release(t, "schema1.exe", "upgrader-schema:0;", "upgrader-schema:1;")
	w.release(t, "schema2.exe", "upgrader-schema:0;", "upgrader-schema:2;")
	return w
}

// release makes another release of the guest: a text in it is replaced.
func (w *wine) release(t *testing.T, program, text, by string) {
	first, err := os.ReadFile(filepath.Join(w.dir, "guest.exe"))
	if err == nil && (len(text) != len(by) || !bytes.Contains(first, []byte(text))) {
		err = fmt.Errorf("%q is not in the guest", text)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, program), bytes.ReplaceAll(first, []byte(text), []byte(by)), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// path is a path of ours as the programs see it.
func (w *wine) path(path string) string { return `Z:` + strings.ReplaceAll(path, "/", `\`) }

func (w *wine) command(t *testing.T, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "wine", append([]string{filepath.Join(w.dir, program)}, args...)...)
	cmd.Env = append(os.Environ(), "WINEPREFIX="+filepath.Join(w.dir, "prefix"), "WINEARCH=win64", "WINEDEBUG=-all",
		"WINEDLLOVERRIDES=mscoree=;mshtml=;winemenubuilder.exe=d")
	cmd.Dir = w.dir
	cmd.WaitDelay = 2 * time.Second // the first one starts services of wine, which keep our pipe
	return cmd
}

// guest is a program that runs.
type guest struct {
	*testing.T
	what    string
	cmd     *exec.Cmd
	lines   chan string
	ended   chan error
	pidFile string
	marker  string
}

func (w *wine) start(t *testing.T, program string, args ...string) *guest {
	return w.startIn(t, w.dir, program, args...)
}

// startIn starts a program in a working directory.
func (w *wine) startIn(t *testing.T, dir, program string, args ...string) *guest {
	cmd := w.command(t, program, args...)
	r, stdout := io.Pipe()
	cmd.Stdout, cmd.Stderr, cmd.Dir = stdout, stdout, dir
	return follow(t, program, cmd, r, stdout)
}

// follow starts a command and reads what it says.
func follow(t *testing.T, program string, cmd *exec.Cmd, r io.Reader, stdout io.Closer) *guest {
	g := &guest{T: t, what: program, cmd: cmd, lines: make(chan string, 100000), ended: make(chan error, 1)}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(g.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			g.lines <- strings.TrimSpace(s.Text())
		}
	}()
	go func() {
		err := g.cmd.Wait()
		_ = stdout.Close()
		g.ended <- err
	}()
	t.Cleanup(g.kill)
	return g
}

// folder is a new one for a server's files.
func (w *wine) folder(t *testing.T) string {
	dir, err := os.MkdirTemp(w.dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve starts an asked side and waits until it can be asked.
func (w *wine) serve(t *testing.T, kind string, stopMs, pollMs int) *guest {
	dir := w.folder(t)
	pidFile, marker := filepath.Join(dir, "server.pid"), filepath.Join(dir, "saved")
	var g *guest
	if kind == "Go" {
		g = w.start(t, "asked.exe", "-pidfile", w.path(pidFile), "-marker", w.path(marker),
			"-stop", (time.Duration(stopMs) * time.Millisecond).String(), "-services", "90s", "-linger", "1s")
	} else {
		g = w.start(t, "peer.exe", "asked", w.path(pidFile), "linger=1000", "stop="+strconv.Itoa(stopMs), "poll="+strconv.Itoa(pollMs))
	}
	g.pidFile, g.marker = pidFile, marker
	g.await("ready")
	return g
}

// ask starts an asking side.
func (w *wine) ask(t *testing.T, kind string, server *guest, args ...string) *guest {
	if kind == "Go" {
		return w.start(t, "asking.exe", append([]string{"-pidfile", w.path(server.pidFile)}, args...)...)
	}
	return w.start(t, "peer.exe", "ask", w.path(server.pidFile))
}

// await waits for a line that begins so.
func (g *guest) await(prefix string) {
	g.Helper()
	g.awaitLine(prefix, strings.HasPrefix)
}

// awaitPart waits for a line with that in it, and gives it.
func (g *guest) awaitPart(part string) string {
	g.Helper()
	return g.awaitLine(part, strings.Contains)
}

// awaitAll waits for a line with each of them in it, in whatever order, and
// gives those lines.
func (g *guest) awaitAll(parts ...string) []string {
	g.Helper()
	lines := make([]string, len(parts))
	missing := len(parts)
	for missing > 0 {
		line := g.awaitLine(strings.Join(parts, ", "), func(line, _ string) bool {
			return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(line, part) })
		})
		for i, part := range parts {
			if lines[i] == "" && strings.Contains(line, part) {
				lines[i] = line
				missing--
			}
		}
	}
	return lines
}

func (g *guest) awaitLine(what string, is func(line, what string) bool) string {
	g.Helper()
	var seen []string
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-g.lines:
			if !ok {
				g.Fatalf("%s ended before %q; it said\n%s", g.what, what, strings.Join(seen, "\n"))
			}
			if is(line, what) {
				return line
			}
			seen = append(seen, line)
		case <-deadline:
			g.Fatalf("%s: no %q; it said\n%s", g.what, what, strings.Join(seen, "\n"))
			return ""
		}
	}
}

// end waits for the program's end and its exit code.
func (g *guest) end(code int) {
	g.Helper()
	select {
	case err := <-g.ended:
		g.ended <- err
		if got := g.cmd.ProcessState.ExitCode(); got != code {
			g.Errorf("%s: %v, exit code %d, want %d; it said\n%s", g.what, err, got, code, g.rest())
		}
	case <-time.After(patience):
		g.Fatalf("%s does not end", g.what)
	}
}

func (g *guest) kill() {
	_ = g.cmd.Process.Kill() // it may be gone by itself
	g.ended <- <-g.ended
}

// rest is what an ended program has said and nobody has awaited.
func (g *guest) rest() string {
	var said []string
	for line := range g.lines {
		said = append(said, line)
	}
	return strings.Join(said, "\n")
}
