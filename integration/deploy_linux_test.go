package integration

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/upgrader/upgrader/integration/load"
)

// Deployments that go wrong, under load, with a predecessor that is kept warm
// and without. No client is ever refused; what fails was in the hands of the
// version that failed.
func TestBadDeployments(t *testing.T) {
	const clients = 16
	for _, c := range []struct {
		name   string
		deploy func(t *testing.T, s *scratch)
		commit bool   // it gets ready: what happens, happens on probation
		reason string // of the verdict
		exit   int    // of the version that failed; 0: it did not exit
		stderr string
	}{
		{"does not exist", func(t *testing.T, s *scratch) {
			if err := os.Remove(s.path("server")); err != nil {
				t.Fatal(err)
			}
		}, false, "not found", 0, ""},
		{"dies at once", func(t *testing.T, s *scratch) { s.write(t, "flags", "-exit-now -exit-code 9", 0o644) }, false, "exited with status 9", 9, "leaving at once"},
		{"dies 2 s after ready", func(t *testing.T, s *scratch) { s.write(t, "flags", "-exit-after 2s -exit-code 5", 0o644) }, true, "exited with status 5 on probation", 5, "leaving after 2s"},
		{"never gets ready", func(t *testing.T, s *scratch) { s.write(t, "flags", "-no-ready", 0o644) }, false, "not ready within 3s", 0, "never ready"},
		{"hangs after ready", func(t *testing.T, s *scratch) { s.write(t, "flags", "-hang-after 1s", 0o644) }, true, "failed its health check", 0, "serving as"},
	} {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, warm %v", c.name, warm), func(t *testing.T) {
				s := newScratch(t, 0)
				a := address(t)
				install(t, guestBinary(), s.path("server"))
				flags := []string{"--listen", a, "--ready-timeout", "3s", "--probation", "5m", "--health", "http=http://" + a + "/", "--health-timeout", "2s"}
				if warm {
					flags = append(flags, "--warm")
				}
				u := start(t, options{scratch: s, flags: flags, command: []string{s.path("server"), "-http", "env", "-flags-file", s.path("flags")}})
				u.awaitServing()
				l := startLoad(t, load.Config{Address: a, Clients: clients, PerConnection: 1, Rate: 500})
				awaitMore(t, l, 50)
				first := u.status().server()
				c.deploy(t, s)
				stdout, stderr, code := u.run("restart")
				if want := map[bool]int{true: 0, false: 1}[c.commit]; code != want {
					t.Fatalf("restart exited %d, want %d\nstdout: %s\nstderr: %s", code, want, stdout, stderr)
				}
				s.write(t, "flags", "", 0o644)
				r := u.await("rolled back", func(r statusReport) error {
					if v := r.lastVerdict(); v.Verdict != "rolled-back" || r.State != "serving" {
						return fmt.Errorf("state %s, verdict %+v", r.State, v)
					}
					return nil
				})
				v := r.lastVerdict()
				if !strings.Contains(v.Reason, c.reason) {
					t.Errorf("the reason is %q, want %q", v.Reason, c.reason)
				}
				if c.exit != 0 && (v.Exit == nil || v.Exit.Code != c.exit) {
					t.Errorf("the exit status %d is not told: %+v", c.exit, v.Exit)
				}
				if c.stderr != "" && !slices.ContainsFunc(v.Stderr, func(line string) bool { return strings.Contains(line, c.stderr) }) {
					t.Errorf("the stderr is not told: %q", v.Stderr)
				}
				// Without a commit, and with a warm predecessor, it is the very process that serves on.
				if same := r.server().Pid == first.Pid; same != (!c.commit || warm) {
					t.Errorf("pid %d serves, before it was %d", r.server().Pid, first.Pid)
				}
				awaitMore(t, l, 200)
				u.awaitAlone()
				got := l.Stop()
				t.Logf("%v; %v", got, v.Phases)
				inHand := 0
				if c.commit {
					inHand = clients
				}
				if got.Outcomes[load.Refused] != 0 || got.Failed() > inHand {
					t.Errorf("%d refused, %d failed, at most %d may: %v", got.Outcomes[load.Refused], got.Failed(), inHand, got)
				}
				u.mustCleanShutdown()
			})
		}
	}
}

// share waits until the canary has its share, and gives its generation.
func (u *upgrader) share(percent int) int {
	u.t.Helper()
	generation := 0
	u.await(fmt.Sprintf("a share of %d %%", percent), func(s statusReport) error {
		for _, c := range s.Claims {
			for _, lane := range c.Lanes {
				if lane.Share == percent && lane.State == "shared" {
					generation = lane.Generation
					return nil
				}
			}
		}
		return fmt.Errorf("state %s, claims %+v", s.State, s.Claims)
	})
	return generation
}

// A canary gets the share that was asked for, and nothing when it is over.
func TestCanaryShares(t *testing.T) {
	a := address(t)
	u := start(t, options{command: []string{guestBinary(), "-http", a}})
	u.awaitServing()
	n := amount("INTEGRATION_CANARY", 20000)
	for _, percent := range []int{1, 10, 50} {
		if _, stderr, code := u.run("restart", "--no-wait", "--canary", fmt.Sprintf("%d%%", percent), "--step", "1h"); code != 0 {
			t.Fatalf("restart exited %d: %s", code, stderr)
		}
		generation := u.share(percent)
		l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Limit: n})
		awaitMore(t, l, n)
		r := l.Stop()
		t.Logf("%d %%: %v of %v", percent, r.Generations[generation], r)
		p := float64(percent) / 100
		far := math.Abs(float64(r.Generations[generation])/float64(n) - p)
		if most := max(0.02, 6*math.Sqrt(p*(1-p)/float64(n))); far > most || r.Failed() != 0 {
			t.Errorf("%d %% of %d requests are %d, %d failed", percent, n, r.Generations[generation], r.Failed())
		}
		l = startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 500})
		awaitMore(t, l, 50)
		if stdout, stderr, code := u.run("rollback"); code != 0 {
			t.Errorf("rollback exited %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
		}
		awaitMore(t, l, 50)
		u.awaitAlone()
		if r := l.Stop(); r.Failed() != 0 {
			t.Errorf("a rollback by hand: %v", r)
		}
		if v := u.status().lastVerdict(); v.Verdict != "rolled-back" || v.To != generation {
			t.Errorf("the verdict is %+v", v)
		}
	}
	u.mustCleanShutdown()
}

// A canary that is well goes all the way, and one that dies on it takes with it
// what it had in its hands.
func TestCanarySteps(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	u := start(t, options{
		scratch: s, flags: []string{"--listen", a, "--health", "tcp=" + a, "--canary", "5%,50%", "--canary-step", "500ms"},
		command: []string{guestBinary(), "-http", "env", "-flags-file", s.path("flags")},
	})
	u.awaitServing()
	l := startLoad(t, load.Config{Address: a, Clients: 16, PerConnection: 1, Rate: 500})
	awaitMore(t, l, 50)
	generation := u.swap()
	awaitGeneration(t, l, generation)
	u.awaitAlone()
	if r := l.Stop(); r.Failed() != 0 {
		t.Errorf("a canary that is well: %v", r)
	}
	steps := 0
	for _, p := range u.status().lastVerdict().Phases {
		if p.Name == "canary" {
			steps++
		}
	}
	if steps != 2 {
		t.Errorf("%d steps are told: %+v", steps, u.status().lastVerdict())
	}

	before := u.status().server()
	l = startLoad(t, load.Config{Address: a, Clients: 16, PerConnection: 1, Rate: 500})
	if _, stderr, code := u.run("restart", "--no-wait", "--canary", "50", "--step", "1h"); code != 0 {
		t.Fatalf("restart exited %d: %s", code, stderr)
	}
	canary := u.share(50)
	awaitGeneration(t, l, canary)
	for _, g := range u.status().Generations {
		if g.Number == canary {
			if err := syscall.Kill(g.Pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := u.await("steered back", func(r statusReport) error {
		if v := r.lastVerdict(); v.Verdict != "rolled-back" || v.To != canary || r.State != "serving" {
			return fmt.Errorf("state %s, %+v", r.State, v)
		}
		return nil
	})
	if v := r.lastVerdict(); !strings.Contains(v.Reason, "killed by KILL as a canary") || r.server() != before {
		t.Errorf("the verdict is %+v, %+v serves, before it was %+v", v, r.server(), before)
	}
	awaitMore(t, l, 100)
	u.awaitAlone()
	if r := l.Stop(); r.Outcomes[load.Refused] != 0 || r.Failed() > 16 {
		t.Errorf("a canary that died: %v", r)
	}
	u.mustCleanShutdown()
}

// The upgrader dies while two generations share the address, or while one is
// kept warm: the next upgrader goes on with the one that served.
func TestUpgraderKilledWithTwoGenerations(t *testing.T) {
	for _, warm := range []bool{false, true} {
		t.Run(fmt.Sprintf("warm %v", warm), func(t *testing.T) {
			a := address(t)
			o := options{flags: []string{"--listen", a}, command: []string{guestBinary(), "-http", "env"}}
			if warm {
				o.flags = append(o.flags, "--warm", "--probation", "5m")
			}
			u := start(t, o)
			u.awaitServing()
			l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 500})
			if warm {
				u.swap()
			} else {
				if _, stderr, code := u.run("restart", "--no-wait", "--canary", "50", "--step", "1h"); code != 0 {
					t.Fatalf("restart exited %d: %s", code, stderr)
				}
				u.share(50)
			}
			awaitGeneration(t, l, 2)
			u.kill()
			awaitMore(t, l, 100)
			u = u.again()
			u.awaitServing()
			generation := u.swap()
			awaitGeneration(t, l, generation)
			if !warm { // else the one before is kept again
				u.awaitAlone()
			}
			if r := l.Stop(); r.Failed() != 0 {
				t.Errorf("%v", r)
			}
			u.mustCleanShutdown()
		})
	}
}
