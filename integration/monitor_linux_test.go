package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watcher is a running `upgrader monitor`.
type watcher struct {
	t       *testing.T
	command *exec.Cmd
	gone    chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

func (w *watcher) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(b)
}

func (w *watcher) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String()
}

// startMonitor runs `upgrader monitor`. With a terminal, what it draws is in text, too.
func (u *upgrader) startMonitor(terminal *os.File, arguments ...string) *watcher {
	u.t.Helper()
	w := &watcher{t: u.t, gone: make(chan struct{})}
	w.command = exec.Command(u.options.binary, append([]string{"monitor", "--state-dir", u.state}, arguments...)...)
	w.command.Dir = u.options.scratch.dir
	w.command.Stdout, w.command.Stderr = w, w
	if terminal != nil {
		w.command.Stdin, w.command.Stdout, w.command.Stderr = terminal, terminal, terminal
		w.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	}
	if err := w.command.Start(); err != nil {
		u.t.Fatal(err)
	}
	nowLiving(w.command.Process.Pid, "the monitor of "+u.t.Name())
	go func() {
		_ = w.command.Wait() // its status is in ProcessState
		noLongerLiving(w.command.Process.Pid)
		close(w.gone)
	}()
	u.t.Cleanup(func() {
		_ = w.command.Process.Kill() // it has ended, unless the test failed
		<-w.gone
		if u.t.Failed() {
			u.t.Logf("the monitor's output:\n%q", w.text())
		}
	})
	return w
}

// await waits until it has shown all of these.
func (w *watcher) await(texts ...string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("the monitor shows %q", texts), func() error {
		all := w.text()
		for _, text := range texts {
			if !strings.Contains(all, text) {
				return fmt.Errorf("%q is not there", text)
			}
		}
		return nil
	})
}

// ended waits for its end, with status 0.
func (w *watcher) ended() {
	w.t.Helper()
	select {
	case <-w.gone:
	case <-time.After(patience):
		w.t.Fatal("the monitor did not end")
	}
	if code := status(w.command.ProcessState); code != 0 {
		w.t.Errorf("exit status %d", code)
	}
}

// In a terminal the screen follows what happens, and is as it was afterwards.
func TestMonitorInTerminal(t *testing.T) {
	for _, typed := range []string{"q", "\x03"} { // Ctrl-C
		t.Run(fmt.Sprintf("%q", typed), func(t *testing.T) {
			u := start(t, options{flags: []string{"--listen", address(t), "--name", "shop", "--probation", "1s"}, command: []string{guestBinary(), "-http", "env"}})
			u.awaitServing()
			master, slave := quietTerminal(t)
			if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 80, Col: 200}); err != nil { // all steps have room
				t.Fatal(err)
			}
			before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			w := u.startMonitor(slave)
			go func() { // ends with the terminal
				b := make([]byte, 4096)
				for {
					n, err := master.Read(b)
					if err != nil {
						return
					}
					_, _ = w.Write(b[:n]) // into memory
				}
			}()
			w.await("\x1b[?1049h", "shop", "serving", "GENERATION", "IN FLIGHT")
			u.swap()
			w.await("THE SWAP UNDER WAY", "ready generation 2", "steered generation 2", "committed", "THE LAST SWAP", "proved")
			if _, err := master.WriteString(typed); err != nil {
				t.Fatal(err)
			}
			w.ended()
			w.await("\x1b[?1049l", "\x1b[?25h")
			after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal's settings are %+v, they were %+v: %v", after, before, err)
			}
			u.mustCleanShutdown()
		})
	}
}

// Into a pipe it writes a line for each change, and ends with the upgrader.
func TestMonitorLines(t *testing.T) {
	u := start(t, options{flags: []string{"--listen", address(t), "--name", "shop"}, command: []string{guestBinary(), "-http", "env"}})
	u.awaitServing()
	text, lines := u.startMonitor(nil), u.startMonitor(nil, "--json")
	text.await("shop: serving for", "generation 1 serves")
	lines.await(`{"status":{`)
	generation := u.swap()
	text.await("swapping generation 2: command", "ready generation 2", "committed generation 2")
	lines.await(`"what":"swapping"`, `"what":"committed"`)
	u.mustCleanShutdown()
	text.ended()
	lines.ended()
	serving, events := 0, 0
	for line := range strings.Lines(lines.text()) {
		var l struct {
			Event  *struct{ What string }
			Status *statusReport
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || (l.Event == nil) == (l.Status == nil) {
			t.Fatalf("%q: %v", line, err)
		}
		if l.Status != nil && l.Status.serving() > 0 {
			serving = l.Status.serving()
		}
		if l.Event != nil {
			events++
		}
	}
	if serving != generation || events < 4 {
		t.Errorf("the last status has generation %d serving, want %d; %d events", serving, generation, events)
	}
}

// Without an upgrader there is nothing to watch.
func TestMonitorOfNobody(t *testing.T) {
	s := newScratch(t, 0)
	if _, stderr, code := run(t, runOptions{dir: s.dir}, "monitor", "--state-dir", s.path("none")); code != exitUsage || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit status %d: %s", code, stderr)
	}
}
