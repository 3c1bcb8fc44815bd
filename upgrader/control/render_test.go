package control

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func sample() Status {
	s := Status{
		Name: "api", Command: []string{"./server", "-p", "80"}, Pid: 4200, State: "probation", Since: noon.Add(-5 * time.Second),
		Started: noon.Add(-26 * time.Hour), Strategy: "overlap", Restarts: 2, Parked: 1, Message: "warm\x1b[2Jing up",
		Generations: []Generation{
			{Number: 9, Pid: 4300, State: GenerationDraining, Started: noon.Add(-26 * time.Hour), Ready: noon.Add(-26*time.Hour + 1234*time.Millisecond), Executable: "/srv/old", Lanes: 1, Members: 3},
			{Number: 10, Pid: 4400, State: GenerationServing, Started: noon.Add(-70 * time.Second), Ready: noon.Add(-70*time.Second + 12345*time.Microsecond), Executable: "/srv/new", Lanes: 1, Members: 1},
			{Number: 11, State: GenerationStarting, Started: noon, Executable: "/srv/new"},
		},
		Claims: []Claim{{Name: "web", Address: "tcp :80", InFlight: 2, Lanes: []LaneInfo{{Generation: 10, State: "steered", Queue: 3}, {Generation: 9, State: "held"}}}, {Name: "admin", Address: "unix:///run/admin", InFlight: -1}},
		Swaps:  Counters{Committed: 8, RolledBack: 1},
		Verdicts: []Verdict{
			{Swap: 1, Verdict: RolledBack, Reason: "generation 2 exited\nwith status 1", Asked: AskedHTTP, From: 1, To: 2, Start: noon.Add(-25 * time.Hour), Took: 61 * time.Second},
			{Swap: 2, Verdict: Committed, Asked: AskedSignal, From: 1, To: 3, Start: noon.Add(-3 * time.Hour), Took: 250 * time.Millisecond},
		},
	}
	s.fill()
	return s
}

const rendered = `service   api
state     probation for 5s
message   warm?[2Jing up
command   ./server -p 80
upgrader  pid 4200, strategy overlap, up 1d2h
swaps     8 committed, 1 rolled back, 0 failed
restarts  2
parked    1 descriptor

GENERATION  PID   STATE     STARTED     READY AFTER  PROCESSES  LANES  EXECUTABLE
9           4300  draining  1d2h ago    1.23s        3          1      /srv/old
10          4400  serving   1m10s ago   12.35ms      1          1      /srv/new
11          -     starting  now         -            0          0      /srv/new

CLAIM  ADDRESS            IN FLIGHT  LANES
web    tcp :80            2          10 steered (3 queued), 9 held
admin  unix:///run/admin  -

SWAP  VERDICT      WHEN      TOOK   ASKED BY     FROM  TO  REASON
2     committed    3h ago    250ms  signal USR2  1     3
1     rolled-back  1d1h ago  1m1s   http         1     2   generation 2 exited?with status 1
`

func TestRender(t *testing.T) {
	var b bytes.Buffer
	if err := Render(&b, sample(), noon); err != nil {
		t.Fatal(err)
	}
	squeeze := func(s string) string { // how wide a column is does not matter here
		lines := strings.Split(s, "\n")
		for i, l := range lines {
			lines[i] = strings.Join(strings.Fields(l), " ")
		}
		return strings.Join(lines, "\n")
	}
	if squeeze(b.String()) != squeeze(rendered) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), rendered)
	}
	for _, block := range strings.Split(b.String(), "\n\n")[1:] {
		lines := strings.Split(strings.TrimRight(block, "\n"), "\n")
		second := strings.Fields(lines[0])[1]
		at := strings.Index(lines[0], second)
		for _, l := range lines[1:] {
			if l[at] == ' ' || l[at-1] != ' ' {
				t.Errorf("not aligned:\n%s", block)
			}
		}
	}
	b.Reset()
	if err := Render(&b, Status{}, noon); err != nil || strings.Contains(b.String(), "SWAP") {
		t.Errorf("%s, %v", b.String(), err)
	}
}

func TestRenderVerdict(t *testing.T) {
	for _, x := range []struct {
		v    Verdict
		want string
	}{
		{Verdict{Verdict: Committed, From: 1, To: 2, Took: time.Second, Phases: []Phase{{"start", 900 * time.Millisecond}, {"steer", 42 * time.Microsecond}}, Stderr: []string{"x"}},
			"committed: generation 2 serves in place of 1, after 1s\n  start 900ms, steer 42µs\n"},
		{Verdict{Verdict: Committed, To: 2}, "committed: generation 2 serves, after 0s\n"},
		{Verdict{Verdict: RolledBack, Reason: "it ended", Exit: &ExitStatus{Code: 1}, Stderr: []string{"panic:\x07 oh"}},
			"rolled-back: it ended (exit status 1)\n  its last lines on stderr:\n    panic:? oh\n"},
		{Verdict{Verdict: Failed, Reason: "it ended", Exit: &ExitStatus{Code: -1, Signal: "KILL"}}, "failed: it ended (killed by KILL)\n"},
	} {
		var b bytes.Buffer
		if err := RenderVerdict(&b, x.v); err != nil || b.String() != x.want {
			t.Errorf("got %q, %v, want %q", b.String(), err, x.want)
		}
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 59*time.Second + 999: "59s", time.Minute: "1m", 3599 * time.Second: "59m59s",
		time.Hour: "1h", 25 * time.Hour: "1d1h", 24*time.Hour + time.Minute: "1d", 1000 * 24 * time.Hour: "1000d",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	if got := Ago(noon.Add(time.Hour), noon); got != "now" {
		t.Errorf("the future was %s", got)
	}
}

// TestSchema holds the names that scripts rely upon.
func TestSchema(t *testing.T) {
	s := Status{Generations: []Generation{{}}, Claims: []Claim{{}}, Verdicts: []Verdict{{Phases: []Phase{{}}, Exit: &ExitStatus{}}}}
	s.fill()
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	zero := `"0001-01-01T00:00:00Z"`
	want := `{"version":1,"name":"","command":[],"pid":0,"state":"","since":` + zero + `,"started":` + zero + `,"strategy":"",` +
		`"generations":[{"number":0,"pid":0,"state":"","started":` + zero + `,"executable":"","lanes":0,"members":0}],` +
		`"claims":[{"name":"","address":"","in_flight":0,"lanes":[]}],"swaps":{"committed":0,"rolled_back":0,"failed":0},"totals":{"timeouts":0,"errors":0,"took_ns":0,"phases":[],"relayed":0,"lost":0},` +
		`"verdicts":[{"swap":0,"verdict":"","asked":"","from":0,"to":0,"start":` + zero + `,"took_ns":0,"phases":[{"name":"","duration_ns":0}],"exit":{"code":0}}],` +
		`"parked":0,"restarts":0}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
