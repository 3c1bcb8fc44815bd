package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Sockets have the names and numbers that they have there.
func TestStarterSockets(t *testing.T) {
	s := starterProgram(t)
	p, q := port(t), port(t)
	flags := []string{
		"--port", fmt.Sprintf("127.0.0.1:%d", p), "--port", fmt.Sprintf("127.0.0.1:u%d", p),
		"--port", fmt.Sprintf("%d=0", q), "--port", fmt.Sprintf("u%d =4", q), "--path", "./a.sock", "--backlog", "9",
	}
	want := fmt.Sprintf("127.0.0.1:%d=3;127.0.0.1:%d=5;%d=0;%d=4;./a.sock=6", p, p, q, q)
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		_ = l.Close() // nobody came
		flags = append(flags, "--port", fmt.Sprintf("[::1]:%d=9", p))
		want = strings.Replace(want, ";./a.sock", fmt.Sprintf(";[::1]:%d=9;./a.sock", p), 1)
	}
	r := starterStart(t, s, nil, flags...)
	starterServes(t, s, 1)
	if got, _ := starterVariable(t, s, 1, "SERVER_STARTER_PORT"); got != want {
		t.Errorf("SERVER_STARTER_PORT is %q, want %q", got, want)
	}
	pid := starterServes(t, s, 1)[0]
	open := descriptors(pid)
	for _, fd := range []int{0, 3, 4, 5, 6} {
		if !strings.HasPrefix(open[fd], "socket:") {
			t.Errorf("descriptor %d of the server is %q", fd, open[fd])
		}
	}
	for _, to := range [][2]string{{"tcp", fmt.Sprintf("127.0.0.1:%d", p)}, {"tcp", fmt.Sprintf("127.0.0.1:%d", q)}, {"unix", s.path("a.sock")}} {
		c, err := net.Dial(to[0], to[1])
		if err != nil {
			t.Error(err)
			continue
		}
		_ = c.Close() // nothing was said
	}
	if info, err := os.Stat(s.path("a.sock")); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("the unix socket: %v, %v", info, err)
	}
	r.end(syscall.SIGTERM)
	if _, err := os.Lstat(s.path("a.sock")); err == nil {
		t.Error("the unix socket is left")
	}
}

// Without sockets the variable is there, and empty.
func TestStarterWithoutSockets(t *testing.T) {
	s := starterProgram(t)
	r := starterStart(t, s, []string{"SERVER_STARTER_PORT=8=9"})
	starterServes(t, s, 1)
	if got, ok := starterVariable(t, s, 1, "SERVER_STARTER_PORT"); !ok || got != "" {
		t.Errorf("SERVER_STARTER_PORT is %q, %v", got, ok)
	}
	r.end(syscall.SIGTERM)
}

// HUP swaps; each signal reaches the servers under the name that was asked for.
func TestStarterSignals(t *testing.T) {
	for _, row := range []struct {
		name  string
		flags []string
		stop  syscall.Signal
		want  string
	}{
		{"default", nil, syscall.SIGTERM, "TERM 1\nTERM 2\n"},
		{"named", []string{"--signal-on-hup=usr1", "--signal-on-term", "SIGUSR2"}, syscall.SIGTERM, "USR1 1\nUSR2 2\n"},
		{"interrupt", []string{"--signal-on-hup=USR1", "--signal-on-term", "USR2"}, syscall.SIGINT, "USR1 1\nTERM 2\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := starterProgram(t)
			r := starterStart(t, s, nil, append(row.flags, "--port", address(t))...)
			first := starterServes(t, s, 1)[0]
			if got, want := starterFile(s, "pid"), fmt.Sprintf("%d\n", r.command.Process.Pid); got != want {
				t.Errorf("the pid file says %q, want %q", got, want)
			}
			r.signal(syscall.SIGHUP)
			if second := starterServes(t, s, 2)[0]; second == first {
				t.Error("the server was not swapped")
			}
			r.end(row.stop)
			if got := starterFile(s, "signals"); got != row.want {
				t.Errorf("signals: %q, want %q", got, row.want)
			}
		})
	}
}

// Starts that fail are tried again, each with a number of its own; --restart
// answers 0 when one succeeds.
func TestStarterFailedStarts(t *testing.T) {
	s := starterProgram(t)
	s.write(t, "fail", "", 0o644)
	r := starterStart(t, s, nil, "--interval", "3", "--port", address(t)) // longer than a start that fails can take
	starterServes(t, s, 2)
	s.write(t, "fail", "", 0o644)
	if out, stderr, code := starterCall(t, s, "--restart", "--pid-file", "pid", "--status-file", "status"); code != 0 || !strings.Contains(out, "cannot start") {
		t.Errorf("--restart after one failed attempt: %d\n%s%s", code, out, stderr)
	}
	starterServes(t, s, 4)
	r.end(syscall.SIGTERM)
}

// --restart answers 1 when no attempt succeeds. What serves goes on, and so do
// the attempts.
func TestStarterNeverStarts(t *testing.T) {
	s := starterProgram(t)
	r := starterStart(t, s, nil, "--port", address(t))
	starterServes(t, s, 1)
	s.write(t, "server", starterScript, 0o644) // cannot be executed
	out, stderr, code := starterCall(t, s, "--restart", "--pid-file", "pid", "--status-file", "status")
	if code != 1 || !strings.Contains(out, "not executable") {
		t.Errorf("--restart: %d\n%s%s", code, out, stderr)
	}
	starterServes(t, s, 1)
	s.write(t, "server", starterScript, 0o755)
	starterServes(t, s, 2)
	r.end(syscall.SIGTERM)
}

// A server that ignores signals holds nobody up for ever: not a stop, and not
// a swap.
func TestStarterStubborn(t *testing.T) {
	s := starterProgram(t)
	s.write(t, "stubborn", "", 0o644)
	r := starterStart(t, s, []string{"UPGRADER_STOP_TIMEOUT=0.3", "UPGRADER_DRAIN_TIMEOUT=0.3"})
	starterServes(t, s, 1)
	if out, stderr, code := starterCall(t, s, "--restart", "--pid-file", "pid", "--status-file", "status"); code != 0 {
		t.Errorf("--restart: %d\n%s%s", code, out, stderr)
	}
	starterServes(t, s, 2)
	if _, stderr, code := starterCall(t, s, "--stop", "--pid-file", "pid"); code != 0 {
		t.Errorf("--stop: %d\n%s", code, stderr)
	}
	r.ended()
	if got := starterFile(s, "signals"); got != "TERM 1\nTERM 2\n" {
		t.Errorf("signals: %q", got)
	}
}

// A crash is made good by another start.
func TestStarterCrash(t *testing.T) {
	s := starterProgram(t)
	r := starterStart(t, s, nil)
	pid := starterServes(t, s, 1)[0]
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	starterServes(t, s, 2)
	r.end(syscall.SIGTERM)
}

// The directory of variables is read at each start, a crash included.
func TestStarterEnvdir(t *testing.T) {
	s := starterProgram(t)
	if err := os.Mkdir(s.path("vars"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write(t, "vars/FOO", "one\nmore\n", 0o644)
	s.write(t, "vars/.hidden", "x\n", 0o644)
	r := starterStart(t, s, []string{"ENVDIR=/nowhere"}, "--envdir", "vars")
	pid := starterServes(t, s, 1)[0]
	expect := func(generation int, want string, there bool) {
		t.Helper()
		if got, ok := starterVariable(t, s, generation, "FOO"); got != want || ok != there {
			t.Errorf("generation %d: FOO is %q, %v, want %q, %v", generation, got, ok, want, there)
		}
	}
	expect(1, "one", true)
	if got, _ := starterVariable(t, s, 1, "ENVDIR"); got != "vars" {
		t.Errorf("ENVDIR is %q", got)
	}
	s.write(t, "vars/FOO", "two", 0o644)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	starterServes(t, s, 2)
	expect(2, "two", true)
	if err := os.Remove(s.path("vars/FOO")); err != nil {
		t.Fatal(err)
	}
	r.signal(syscall.SIGHUP)
	starterServes(t, s, 3)
	expect(3, "", false)
	r.end(syscall.SIGTERM)
}

func TestStarterDir(t *testing.T) {
	s := starterProgram(t)
	if err := os.Mkdir(s.path("there"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write(t, "there/server", "#!/bin/sh\npwd -P > ../where.new && mv ../where.new ../env.1\nexec sleep 1000\n", 0o755)
	r := starterStart(t, s, nil, "--dir", "there")
	starterServes(t, s, 1)
	if got := filepath.Base(strings.TrimSpace(starterFile(s, "env.1"))); got != "there" {
		t.Errorf("the server ran in %q", got)
	}
	r.end(syscall.SIGTERM)
}

// Output goes to a file or through a command.
func TestStarterLogFile(t *testing.T) {
	for name, spec := range map[string]string{"file": "out", "command": "| sed 's/^/piped: /' >> out"} {
		t.Run(name, func(t *testing.T) {
			need(t, "sed")
			s := starterProgram(t)
			s.write(t, "out", "before\n", 0o644)
			r := starterStart(t, s, nil, "--log-file", spec)
			starterServes(t, s, 1)
			r.end(syscall.SIGTERM)
			prefix := map[string]string{"file": "", "command": "piped: "}[name]
			eventually(t, "the output", func() error {
				text := starterFile(s, "out")
				for _, want := range []string{"before\n", "\n" + prefix + "out 1\n", "\n" + prefix + "err 1\n"} {
					if !strings.Contains(text, want) {
						return fmt.Errorf("%q is not in %q", want, text)
					}
				}
				return nil
			})
		})
	}
}

// A predecessor goes on for as long as was asked; a stop does not wait for that.
func TestStarterKillOldDelay(t *testing.T) {
	s := starterProgram(t)
	r := starterStart(t, s, []string{"KILL_OLD_DELAY=0"}, "--kill-old-delay", "3600")
	starterServes(t, s, 1)
	r.signal(syscall.SIGHUP)
	starterServes(t, s, 1, 2)
	r.signal(syscall.SIGHUP)
	starterServes(t, s, 1, 2, 3)
	r.end(syscall.SIGTERM)
}

func TestStarterAutoRestart(t *testing.T) {
	s := starterProgram(t)
	r := starterStart(t, s, nil, "--enable-auto-restart", "--auto-restart-interval=0.3", "--kill-old-delay=0")
	eventually(t, "two swaps", func() error {
		if starterFile(s, "env.3") == "" {
			return errors.New("no third generation yet")
		}
		return nil
	})
	r.end(syscall.SIGTERM)
}

// --daemonize returns when the addresses are claimed, or tells why not.
func TestStarterDaemonize(t *testing.T) {
	s := starterProgram(t)
	a := address(t)
	arguments := []string{"--daemonize", "--log-file", "out", "--interval", "0.3", "--port", a, "--pid-file", "pid", "--status-file", "status", "--", "./server"}
	_, stderr, code := starterCall(t, s, arguments...)
	if code != 0 {
		t.Fatalf("exit status %d\n%s", code, stderr)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(starterFile(s, "pid")))
	if err != nil {
		t.Fatal(err)
	}
	nowLiving(pid, t.Name())
	defer noLongerLiving(pid)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output:\n%s", starterFile(s, "out"))
			_ = syscall.Kill(pid, syscall.SIGTERM) // still ours if it runs: it is our descendant
		}
	})
	starterServes(t, s, 1)
	if session, err := getsid(pid); err != nil || session != pid {
		t.Errorf("session %d of pid %d, %v", session, pid, err)
	}
	if _, stderr, code := starterCall(t, s, "--daemonize", "--log-file", "out2", "--port", a, "--", "./server"); code == 0 || !strings.Contains(stderr, a) {
		t.Errorf("a second one: %d\n%s", code, stderr)
	}
	if _, stderr, code := starterCall(t, s, "--stop", "--pid-file", "pid"); code != 0 {
		t.Errorf("--stop: %d\n%s", code, stderr)
	}
	if _, err := os.Lstat(s.path("pid")); err == nil {
		t.Error("the pid file is left")
	}
}

// What --stop and --restart answer when nobody is there, a stale file included.
func TestStarterNobody(t *testing.T) {
	s := starterProgram(t)
	s.write(t, "stale", fmt.Sprintf("%d\n", os.Getpid()), 0o644) // runs, but has no lock
	s.write(t, "status", "1:1\n", 0o644)
	for _, file := range []string{"none", "stale", "status"} {
		for _, mode := range []string{"--stop", "--restart"} {
			if _, stderr, code := starterCall(t, s, mode, "--pid-file", file, "--status-file", "status"); code != 2 || stderr == "" {
				t.Errorf("%s %s: %d, %q", mode, file, code, stderr)
			}
		}
	}
}

func TestStarterCommandLine(t *testing.T) {
	s := starterProgram(t)
	for _, row := range []struct {
		arguments []string
		code      int
		out       string
	}{
		{[]string{"--version"}, 0, "0.35"},
		{[]string{"--help"}, 0, "--signal-on-hup"},
		{[]string{"--nonsense"}, 1, "unknown option"},
		{[]string{"--port", "80"}, 1, "server program not specified"},
		{[]string{"--port", "http", "--", "./server"}, 255, "port"},
		{[]string{"--signal-on-hup", "NONE", "--", "./server"}, 255, "signal"},
		{[]string{"--port=8=3", "--port=9=3", "--", "./server"}, 255, "descriptor 3"},
		{[]string{"--", "./missing"}, 127, "missing"},
	} {
		for _, named := range []bool{true, false} {
			o, arguments := runOptions{binary: s.path("start_server"), dir: s.dir}, row.arguments
			if !named {
				o.binary, arguments = upgraderBinary(), append([]string{"start-server"}, arguments...)
			}
			out, stderr, code := run(t, o, arguments...)
			if code != row.code || !strings.Contains(out+stderr, row.out) {
				t.Errorf("%s %q: %d\n%s%s", filepath.Base(o.binary), arguments, code, out, stderr)
			}
		}
	}
}

// The server may be anything that knows the protocol: its port is never closed.
func TestStarterServesThroughSwap(t *testing.T) {
	s := starterProgram(t)
	s.write(t, "server", "#!/bin/sh\nexec "+guestBinary()+" -dialect server-starter -http env\n", 0o755)
	a := address(t)
	r := starterStart(t, s, nil, "--port", a)
	starterServes(t, s, 1)
	stop, refused := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(refused)
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := net.Dial("tcp", a)
			if err != nil {
				refused <- err
				return
			}
			_, err = fmt.Fprintf(c, "GET / HTTP/1.0\r\n\r\n")
			if err == nil {
				_ = c.SetReadDeadline(time.Now().Add(patience)) // cannot fail on a connection
				_, err = c.Read(make([]byte, 1))
			}
			_ = c.Close() // read as far as we want
			if err != nil {
				refused <- err
				return
			}
		}
	}()
	for g := 2; g <= 3; g++ {
		r.signal(syscall.SIGHUP)
		starterServes(t, s, g)
	}
	close(stop)
	if err := <-refused; err != nil {
		t.Error(err)
	}
	r.end(syscall.SIGTERM)
}
