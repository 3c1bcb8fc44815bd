package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// timersState is what the example answers.
type timersState struct {
	Registered, Fired, Starts, Stops, Ticks uint64
	Due                                     int64
}

func timersOf(t *testing.T, a string, enough func(timersState) bool) timersState {
	t.Helper()
	var s timersState
	eventually(t, "the timers run", func() error {
		r, err := fresh().Get("http://" + a + "/")
		if err != nil {
			return err
		}
		defer func() { _ = r.Body.Close() }() // it was read
		s = timersState{}
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			return err
		}
		if !enough(s) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	return s
}

// The example of docs/timers.md: a timer that lives from start to stop, and
// one that goes on in the successors.
func TestTimers(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	release := func(flags, schemas string) {
		s.write(t, "server", fmt.Sprintf("#!/bin/sh\n# upgrader-schema:%s;\nexec %s %s\n", schemas, timersBinary(), flags), 0o755)
	}
	release("-schema 1", "1")
	u := start(t, options{scratch: s, command: []string{s.path("server")}, flags: []string{
		"--listen", a, "--settle", "5ms", "--shm", "file:" + s.path("world") + ",size=1M", "--backup-dir", s.path("snapshots"), "--swap-signal", "USR1", "--probation", "0"}})
	u.awaitServing()
	ran := func(s timersState) bool { return s.Fired > 0 && s.Ticks > 0 }
	before := timersOf(t, a, ran)
	goesOn := func(what string, starts, registered uint64) {
		t.Helper()
		now := timersOf(t, a, func(s timersState) bool { return s.Fired > before.Fired && s.Ticks > before.Ticks })
		if now.Registered != registered || now.Starts != starts || now.Stops != starts-1 {
			t.Errorf("%s: %+v, want %d starts, registered %d times", what, now, starts, registered)
		}
		const period = 200_000_000
		if off := (now.Due - before.Due) % period; registered == before.Registered && off != 0 {
			t.Errorf("%s: it is off its rhythm by %d ns", what, off)
		}
		before = now
	}
	u.swap()
	goesOn("the same again", 2, 1)
	release("-schema 2", "2,1")
	u.swap()
	goesOn("another schema", 3, 1)
	release("-schema 2 -failing", "2")
	if v := u.rolledBack(); !strings.Contains(strings.Join(v.Stderr, "\n"), "failing in the upgrade") {
		t.Errorf("%+v", v)
	}
	goesOn("an upgrade that failed", 4, 1)
	release("-schema 3", "3")
	if v := u.mustRollBack(); !strings.Contains(v.Reason, "schema 2") {
		t.Errorf("%+v", v)
	}
	goesOn("refused", 4, 1)
	u.mustCleanShutdown()

	// A full stop has ended the inherited timer; a first start registers it.
	release("-schema 2", "2,1")
	u = u.again()
	u.awaitServing()
	goesOn("after a full stop", 5, 2)
	u.mustCleanShutdown()
}

// What the page shows is what is played.
func TestTimersPage(t *testing.T) {
	page, err := os.ReadFile("../docs/timers.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("testdata/timers/module.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	for _, b := range blocks {
		code, _, _ := strings.Cut(b, "```")
		for part := range strings.SplitSeq(code, "\n\n") {
			if !strings.Contains(string(source), strings.TrimSpace(part)) {
				t.Errorf("not in the source:\n%s", part)
			}
		}
	}
	if len(blocks) == 0 {
		t.Error("the page shows nothing")
	}
}
