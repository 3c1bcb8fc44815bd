package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// footprint is what an upgrader at rest takes of the machine.
type footprint struct {
	descriptors, goroutines, processes, files int
	memory                                    int // KiB of its own, without what it shares
}

// footprint measures once.
func (u *upgrader) footprint(api string) (f footprint, err error) {
	u.t.Helper()
	f.descriptors = lasting(descriptors(u.pid()))
	f.processes = len(descendants(u.pid()))
	err = filepath.WalkDir(u.state, func(string, fs.DirEntry, error) error { f.files++; return nil })
	if err != nil {
		return f, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", u.pid()))
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			_, err = fmt.Sscan(rest, &f.memory)
		}
	}
	if err != nil {
		return f, err
	}
	r, err := http.Get("http://" + api + "/metrics")
	if err != nil {
		return f, err
	}
	defer func() { _ = r.Body.Close() }() // only read
	scan := bufio.NewScanner(r.Body)
	for scan.Scan() {
		if rest, ok := strings.CutPrefix(scan.Text(), "go_goroutines "); ok {
			f.goroutines, err = strconv.Atoi(rest)
		}
	}
	return f, firstOf(err, scan.Err())
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Swaps leave nothing behind: after a thousand of them the upgrader has no more
// descriptors, goroutines, processes, files and memory than after the first ones.
func TestManySwaps(t *testing.T) {
	swaps, enough := amount("INTEGRATION_MANY_SWAPS", 1000), 150*time.Second
	a, api := address(t), address(t)
	u := start(t, options{
		flags:   []string{"--listen", a, "--http", api, "--settle", "0", "--probation", "0", "--ready", "notify", "--log-level", "warn"},
		command: []string{guestBinary(), "-http", "env", "-notify"},
	})
	u.awaitServing()
	defer http.DefaultClient.CloseIdleConnections()
	swap := func() {
		t.Helper()
		r, err := http.Post("http://"+api+"/restart", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }() // only read
		var answer struct{ OK bool }
		if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || !answer.OK {
			t.Fatalf("%d, %v", r.StatusCode, err)
		}
	}
	for range 60 { // as many verdicts as are kept, and what pools and caches take
		swap()
	}
	u.mustRest()
	var before footprint
	eventually(t, "a first look", func() (err error) {
		before, err = u.footprint(api)
		return err
	})
	began, done := time.Now(), 0
	for done < swaps && time.Since(began) < enough { // a machine that is busy with other things sees fewer
		swap()
		done++
	}
	took := time.Since(began)
	u.mustRest()
	var after footprint
	eventually(t, "as little as before", func() (err error) {
		if after, err = u.footprint(api); err != nil {
			return err
		}
		const pages = 2 << 10 // KiB: what the runtime may have kept for the next collection
		if after.descriptors > before.descriptors || after.goroutines > before.goroutines || after.processes > before.processes ||
			after.files > before.files || after.memory > before.memory+pages {
			return fmt.Errorf("after %d swaps %+v, before %+v", done, after, before)
		}
		return nil
	})
	t.Logf("%d swaps in %v (%v each); before %+v, after %+v", done, took.Round(time.Second), (took / time.Duration(max(done, 1))).Round(100*time.Microsecond), before, after)
	u.mustCleanShutdown()
}
