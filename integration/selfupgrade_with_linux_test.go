package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/upgrader/upgrader/integration/load"
)

// What a generation has beside its lanes goes to the new upgrader as well: the
// pipes of tableflip's dialect, the watchdog.
func TestSelfUpgradeHandsOver(t *testing.T) {
	a := address(t)
	for _, v := range []struct {
		name    string
		flags   []string
		command []string
	}{
		{"tableflip", []string{"--dialect", "tableflip", "--ready", "notify"}, []string{flipBinary(), a}},
		{"tableflip, one after the other", []string{"--dialect", "tableflip", "--ready", "notify", "--strategy", "exclusive"}, []string{flipBinary(), a}},
		{"watchdog", []string{"--watchdog", "10s"}, []string{guestBinary(), "-http", "env", "-notify", "-beats", "1000000"}},
		{"einhorn", []string{"--dialect", "einhorn"}, []string{guestBinary(), "-dialect", "einhorn", "-http", "env"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			u := ofItsOwn(t, newScratch(t, 0), append([]string{"--init", "--listen", a, "--settle", "10ms"}, v.flags...), v.command)
			l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 300})
			awaitMore(t, l, 50)
			for range 2 {
				generation, _ := u.selfUpgrade()
				awaitGeneration(t, l, generation)
			}
			awaitGeneration(t, l, u.swap())
			lossless(t, v.name, l)
			u.awaitAlone()
			u.mustCleanShutdown()
		})
	}
}

// A segment that the server makes by itself, and the pid file that it writes.
func TestSelfUpgradeOfLoader(t *testing.T) {
	l := newLoader(t)
	u := l.supervise("--probation", "0", "--init")
	u.awaitMemory()
	before := commit(t, l.address, 20)
	for range 2 {
		u.selfUpgrade()
		if s := ledgerOf(t, l.address); s.Found != "resumed" {
			t.Errorf("generation %s: %s", s.Generation, s.Found)
		}
		l.mustNamePid(u)
	}
	sameRecords(t, "two self-upgrades", before, ledgerOf(t, l.address))
	u.awaitMemory()
	u.mustCleanShutdown()
}

// One in the background stays there.
func TestSelfUpgradeInBackground(t *testing.T) {
	for _, more := range [][]string{nil, {"--init"}} {
		t.Run("daemon"+strings.Join(more, ""), func(t *testing.T) {
			s := newScratch(t, 0)
			a := address(t)
			in := func(args ...string) (string, string, int) {
				return run(t, runOptions{binary: upgraderBinary(), dir: s.dir}, args...)
			}
			flags := append([]string{"--daemon", "--state-dir", s.path("state"), "--log-file", s.path("log"), "--listen", a}, more...)
			if _, stderr, code := in(append(flags, "--", guestBinary(), "-http", "env")...); code != 0 {
				t.Fatalf("--daemon exited %d: %s", code, stderr)
			}
			for range 2 {
				if _, stderr, code := in("self-upgrade", "--state-dir", s.path("state")); code != 0 {
					text, _ := os.ReadFile(s.path("log"))
					t.Fatalf("self-upgrade exited %d: %s\n%s", code, stderr, text)
				}
			}
			l := startLoad(t, load.Config{Address: a, Clients: 2, PerConnection: 1, Rate: 100})
			awaitGeneration(t, l, 3)
			lossless(t, "in the background", l)
			if _, stderr, code := in("stop", "--state-dir", s.path("state")); code != 0 {
				t.Errorf("stop exited %d: %s", code, stderr)
			}
			if text, err := os.ReadFile(s.path("log")); err != nil || !strings.Contains(string(text), "handed-over") {
				t.Errorf("the log does not tell of the hand-over: %v", err)
			}
		})
	}
}
