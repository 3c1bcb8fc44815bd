package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/upgrader/upgrader/integration/load"
)

// fleetStatus asks for all services.
func (u *upgrader) fleetStatus() (map[string]statusReport, error) {
	u.t.Helper()
	stdout, stderr, code := u.run("status", "--json")
	if code != 0 {
		return nil, fmt.Errorf("status exited %d: %s", code, stderr)
	}
	var all []statusReport
	if err := json.Unmarshal([]byte(stdout), &all); err != nil {
		return nil, fmt.Errorf("status is no JSON: %w: %.500s", err, stdout)
	}
	by := map[string]statusReport{}
	for _, s := range all {
		by[s.Name] = s
	}
	return by, nil
}

// awaitFleet waits until check is satisfied.
func (u *upgrader) awaitFleet(what string, check func(map[string]statusReport) error) map[string]statusReport {
	u.t.Helper()
	var all map[string]statusReport
	eventually(u.t, what, func() (err error) {
		if all, err = u.fleetStatus(); err != nil {
			return err
		}
		return check(all)
	})
	return all
}

// serve reports an error unless these services serve, and those have stopped.
func serve(serving []string, stopped ...string) func(map[string]statusReport) error {
	return func(all map[string]statusReport) error {
		for _, name := range serving {
			if all[name].serving() == 0 {
				return fmt.Errorf("%s: state %s", name, all[name].State)
			}
		}
		for _, name := range stopped {
			if all[name].State != "stopped" {
				return fmt.Errorf("%s: state %s", name, all[name].State)
			}
		}
		return nil
	}
}

// Several services in one upgrader: what is selected is swapped, and nothing
// that happens to one reaches another.
func TestFleet(t *testing.T) {
	s := newScratch(t, 0)
	a, b, api := address(t), address(t), address(t)
	config := s.write(t, "services.yaml", fmt.Sprintf(`
http: %s
defaults:
  probation: 0s
  type: GameServer
services:
  a: {command: [%q, -http, env], listen: %q, id: 1.1, zone: 1}
  b: {command: [%[2]q, -http, env], listen: %[4]q, id: 1.2, zone: 2, RestartConfig: {MaxRetryCount: 0}}
  bad: {command: [sh, -c, "exit 7"], type: other}
`, api, guestBinary(), a, b), 0o644)
	u := start(t, options{scratch: s, flags: []string{"--config", config}})
	all := u.awaitFleet("two serve", serve([]string{"a", "b"}, "bad"))
	if !strings.Contains(all["bad"].Message, "status 7") {
		t.Errorf("bad says %q", all["bad"].Message)
	}
	loads := map[string]*load.Load{
		"a": startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1}),
		"b": startLoad(t, load.Config{Address: b, Clients: 8, PerConnection: 1}),
	}
	ask := func(query string, want int, names ...string) {
		t.Helper()
		r, err := http.Get("http://" + api + query)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }() // only read
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != want {
			t.Fatalf("%s: %d, want %d: %s (%v)", query, r.StatusCode, want, body, err)
		}
		var answer struct{ Results []struct{ Server string } }
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, one := range answer.Results {
			got = append(got, one.Server)
		}
		if fmt.Sprint(got) != fmt.Sprint(names) {
			t.Errorf("%s was for %v, want %v", query, got, names)
		}
	}
	ask("/restart?Server=a&ID=1.1", 200, "a")
	ask("/restart?Zone=2", 200, "b")
	ask("/restart?ServerType=GameServer", 200, "a", "b")
	ask("/restart?Server=a&ID=1.2", 404)
	ask("/restart", 400)
	ask("/restartall", 500, "a", "b", "bad")
	awaitGeneration(t, loads["a"], 4)
	awaitGeneration(t, loads["b"], 4)

	// By command: by name, by ID, all of them.
	if _, stderr, code := u.run("restart", "a"); code != 0 {
		t.Errorf("restart a: %d: %s", code, stderr)
	}
	if _, stderr, code := u.run("restart", "1.2"); code != 0 {
		t.Errorf("restart 1.2: %d: %s", code, stderr)
	}
	if _, stderr, code := u.run("restart"); code != exitUsage || !strings.Contains(stderr, "--all") {
		t.Errorf("restart of nothing in particular: %d: %s", code, stderr)
	}
	if stdout, _, code := u.run("restart", "--all"); code != 2 || strings.Count(stdout, "committed") != 2 {
		t.Errorf("restart --all: %d: %s", code, stdout)
	}
	lossless(t, "a", loads["a"])
	lossless(t, "b", loads["b"])

	// The end of one is its own, whether it was asked for or not; a restart starts it again.
	if _, stderr, code := u.run("stop", "a"); code != 0 {
		t.Errorf("stop a: %d: %s", code, stderr)
	}
	all = u.awaitFleet("a has stopped", serve([]string{"b"}, "a", "bad"))
	if stdout, stderr, code := u.run("restart", "a"); code != 0 {
		t.Errorf("restart of one that has stopped: %d: %s%s", code, stdout, stderr)
	}
	u.awaitFleet("a serves again", serve([]string{"a", "b"}, "bad"))
	_ = syscall.Kill(all["b"].server().Pid, syscall.SIGKILL) // and again, until its retries are exhausted
	u.awaitFleet("b has stopped", serve([]string{"a"}, "b"))
	u.awaitFleet("a serves on", serve([]string{"a"}, "b", "bad"))
	u.signal(syscall.SIGTERM)
	if code := u.wait(); code != 128+9 && code != 7 {
		t.Errorf("exit status %d", code)
	}
	if left := strays(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// After kill -9 of a fleet the next one finds all of its services.
func TestFleetKilled(t *testing.T) {
	s := newScratch(t, 0)
	a, b := address(t), address(t)
	config := s.write(t, "services.yaml", fmt.Sprintf("services:\n  a: {command: [%q, -http, env], listen: %q}\n  b: {command: [%[1]q, -http, env], listen: %[3]q}\n", guestBinary(), a, b), 0o644)
	u := start(t, options{scratch: s, flags: []string{"--config", config}})
	u.awaitFleet("both serve", serve([]string{"a", "b"}))
	l := startLoad(t, load.Config{Address: a, Clients: 4, PerConnection: 1})
	awaitMore(t, l, 10)
	u.kill()
	u = u.again()
	u.awaitFleet("both serve, the next generation", func(all map[string]statusReport) error {
		for _, name := range []string{"a", "b"} {
			if all[name].serving() != 2 {
				return fmt.Errorf("%s: generation %d", name, all[name].serving())
			}
		}
		return nil
	})
	lossless(t, "kill -9", l)
	u.signal(syscall.SIGTERM)
	if code := u.wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// --daemon returns when the server is ready, and with its status when it never is.
func TestInBackground(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	state := s.path("state")
	call := func(arguments ...string) (string, int) {
		t.Helper()
		c := exec.Command(upgraderBinary(), arguments...)
		c.Dir = s.dir
		out, err := c.CombinedOutput()
		if _, exited := err.(*exec.ExitError); err != nil && !exited {
			t.Fatal(err)
		}
		return string(out), c.ProcessState.ExitCode()
	}
	out, code := call("-d", "--state-dir", state, "--pid-file", s.path("pid"), "--log-file", s.path("log"), "--listen", a, "--", guestBinary(), "-http", "env")
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, out)
	}
	text, err := os.ReadFile(s.path("pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	nowLiving(pid, t.Name())
	defer noLongerLiving(pid)
	r, err := (&http.Client{Timeout: patience}).Get((&url.URL{Scheme: "http", Host: a}).String())
	if err != nil {
		t.Fatalf("it said that it is ready: %v", err)
	}
	_ = r.Body.Close() // it was answered
	if out, code := call("restart", "--state-dir", state); code != 0 {
		t.Errorf("restart: %d: %s", code, out)
	}
	if out, code := call("stop", "--state-dir", state); code != 0 {
		t.Errorf("stop: %d: %s", code, out)
	}
	if log, err := os.ReadFile(s.path("log")); err != nil || !strings.Contains(string(log), "committed") {
		t.Errorf("the log: %v: %s", err, log)
	}
	began := time.Now()
	if out, code := call("-d", "--state-dir", state, "--listen", a, "--", "/bin/sh", "-c", "echo no such luck >&2; exit 9"); code != 9 || !strings.Contains(out, "no such luck") {
		t.Errorf("one that dies: %d after %v: %s", code, time.Since(began), out)
	}
	if out, code := call("-d", "--state-dir", state, "--listen", a, "--", "/no/such/server"); code != exitNotFound {
		t.Errorf("one that is not there: %d: %s", code, out)
	}
	eventually(t, "no process is left", func() error {
		if left := strays(); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// config check tells of every mistake with its line.
func TestConfigCheck(t *testing.T) {
	s := newScratch(t, 0)
	good := s.write(t, "good.yaml", fmt.Sprintf("services:\n  a: {command: [%q]}\n", guestBinary()), 0o644)
	bad := s.write(t, "bad.yaml", "services:\n  a: {command: [/no/such/server]}\n  b:\n    command: [sh]\n    retry_max: 3\n", 0o644)
	for _, c := range []struct {
		path string
		code int
		says string
	}{
		{good, 0, good + ": a"}, {bad, exitUsage, bad + ":5: there is no key retry_max: it is called retry-max"}, {s.path("none"), exitUsage, "no such file"},
	} {
		stdout, stderr, code := run(t, runOptions{binary: upgraderBinary(), dir: s.dir}, "config", "check", c.path)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%s: %d: %s%s", c.path, code, stdout, stderr)
		}
	}
	if _, stderr, code := run(t, runOptions{binary: upgraderBinary(), dir: s.dir}, "--config", bad); code != exitUsage || !strings.Contains(stderr, bad+":5: ") {
		t.Errorf("running it: %d: %s", code, stderr)
	}
}
