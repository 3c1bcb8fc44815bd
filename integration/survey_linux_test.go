package integration

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// surveyedRow is what the test reads of a row of the survey.
type surveyedRow struct {
	Server, Way, Strategy    string
	Claims                   []string
	Fallback                 bool
	Swaps, Committed         int
	Loads                    []surveyedLoad
	Reasons, Warnings, Notes []string
	Skipped, Error           string
}

type surveyedLoad struct {
	Kind             string
	OK, Busy, Routed int
	Failed           map[string]int
	Errors           []string
}

// runSurvey runs the survey to its end and gives its rows.
func runSurvey(t *testing.T, binary string, arguments ...string) []surveyedRow {
	t.Helper()
	out := filepath.Join(t.TempDir(), "rows.json")
	arguments = append(arguments, "-bin", os.Getenv(binEnv), "-out", filepath.Join(t.TempDir(), "servers.md"), "-json", out,
		"-settle-max", "30s", "-ready-timeout", "120s", "-pace", "0.5")
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, binary, arguments...)
	// Rows are inits of their own namespaces: they and all below end with the survey.
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 30 * time.Second
	said, err := c.CombinedOutput()
	t.Logf("%s", said)
	if err != nil {
		t.Fatal(errors.Join(err, ctx.Err()))
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var rows []surveyedRow
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) == 0 {
		t.Fatal("no rows")
	}
	return rows
}

// TestSurvey swaps other people's servers a few times each, as docs/servers.md
// does more often.
func TestSurvey(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: namespaces for each row")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs go")
	}
	binary := filepath.Join(t.TempDir(), "survey")
	build := exec.Command("go", "build", "-o", binary, "./survey")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	swaps := strconv.Itoa(amount("INTEGRATION_SWAPS", 5))
	t.Run("root", func(t *testing.T) {
		checkSurvey(t, runSurvey(t, binary, "-ways", "root", "-swaps", swaps, "-parallel", "4"))
	})
	t.Run("nobody", func(t *testing.T) {
		checkSurvey(t, runSurvey(t, binary, "-ways", "nobody", "-swaps", swaps, "-parallel", "4",
			"-only", "^nginx, (QUIT|reuseport)|^Redis$|^node, dies|^Go, (Shutdown|dual stack|Shutdown, setuid|TCP and UDP)$|epoll"))
	})
}

func checkSurvey(t *testing.T, rows []surveyedRow) {
	for _, r := range rows {
		t.Run(r.Server, func(t *testing.T) {
			switch {
			case r.Skipped != "":
				t.Skip(r.Skipped)
			case r.Error != "":
				t.Fatal(r.Error)
			case r.Fallback:
				if len(r.Warnings) == 0 {
					t.Error("it fell back without a warning")
				}
			case len(r.Claims) == 0:
				t.Error("nothing was taken over")
			case r.Committed != r.Swaps:
				t.Errorf("%d of %d swaps were committed: %v", r.Committed, r.Swaps, r.Reasons)
			}
			for _, l := range r.Loads {
				checkSurveyedLoad(t, r, l)
			}
		})
	}
}

// checkSurveyedLoad: a new connection is never lost by an overlap swap, and
// nobody is ever refused. What a server does to connections that it keeps is
// its own.
func checkSurveyedLoad(t *testing.T, r surveyedRow, l surveyedLoad) {
	t.Helper()
	if l.OK == 0 {
		t.Errorf("%s: nothing was answered", l.Kind)
	}
	if l.Failed["refused"] != 0 {
		t.Errorf("%s: refused: %v %v", l.Kind, l.Failed, l.Errors)
	}
	if l.Kind == "keep-alive" || r.Strategy == "exclusive" {
		return
	}
	if len(l.Failed) != 0 || l.Routed != 0 {
		t.Errorf("%s: failed %v, misrouted %d: %v", l.Kind, l.Failed, l.Routed, l.Errors)
	}
}
