package windows

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// testProfile runs --profile nfshm with a server of our own that has the
// options and the habits of NFPluginLoader, and binds by itself.
func testProfile(t *testing.T, w *wine) {
	t.Run("takeover", func(t *testing.T) { t.Parallel(); takeover(t, w) })
	t.Run("an outsider", func(t *testing.T) { t.Parallel(); outsider(t, w) })
	t.Run("a stranger's pid", func(t *testing.T) { t.Parallel(); strangersPid(t, w) })
	t.Run("kill at the deadline", func(t *testing.T) { t.Parallel(); killedAtDeadline(t, w) })
}

// loading is a server that an operator would start like this in its folder.
type loading struct {
	dir, name, id, program string
	args                   []string
}

func (w *wine) loading(t *testing.T) *loading {
	l := &loading{dir: w.folder(t), name: clean(t.Name())}
	l.program = w.path(filepath.Join(w.dir, "guest.exe"))
	l.id = "1.13.10." + strconv.Itoa(int(w.ports.Add(1)%255)+1) // else those of other tests would be outsiders
	l.args = []string{"--Server=GameServer", "--ID=" + l.id, "--Start", "-segment", l.name, "-linger", "20s", "-listen", "127.0.0.1:" + w.port(t)}
	return l
}

// alone starts it without an upgrader.
func (l *loading) alone(t *testing.T, w *wine) *guest {
	g := w.startIn(t, l.dir, "guest.exe", l.args...)
	g.awaitPart("serving ")
	return g
}

func (l *loading) upgraded(t *testing.T, w *wine, flags ...string) *upgrader {
	u := &upgrader{w: w, state: w.path(w.folder(t))}
	args := append([]string{"--profile", "nfshm", "--shm", "section:" + l.name, "--dev", "--dir", w.path(l.dir), "--ready", "notify", "--state-dir", u.state}, flags...)
	return w.upgradeTo(t, u, args, l.program, l.args...)
}

// takeover: the server that the pid file names, and that is proved to be this
// one, is asked to save and quit, and its successor goes on from its memory,
// which the upgrader holds: its lingering is not waited for.
func takeover(t *testing.T, w *wine) {
	l := w.loading(t)
	first := l.alone(t, w)
	u := l.upgraded(t, w)
	u.awaitAll("\tadopted\t", "\tconfirmed\t", "\tcommitted\t")
	first.awaitPart("left ")
	u.do(0, "restart")
	u.left(2, 3)
	u.kill()
	first.end(0)
}

// outsider: one that an operator starts beside ours is asked to quit, and ours
// goes on from its memory.
func outsider(t *testing.T, w *wine) {
	l := w.loading(t)
	u := l.upgraded(t, w)
	u.awaitAll("\tready\t", "is kept")
	l.args[len(l.args)-1] = "127.0.0.1:" + w.port(t)
	other := l.alone(t, w)
	u.awaitAll("\toutsider\t", "\tcommitted\t")
	other.awaitPart("left ")
	u.kill()
}

// strangersPid: whoever else has the id that the pid file names is left alone.
func strangersPid(t *testing.T, w *wine) {
	stranger := w.loading(t)
	g := stranger.alone(t, w)
	pid, err := os.ReadFile(filepath.Join(stranger.dir, "GameServer_"+stranger.id+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	l := w.loading(t)
	l.name += "-ours"
	l.args[4] = l.name
	if err := os.WriteFile(filepath.Join(l.dir, "GameServer_"+l.id+".pid"), pid, 0o644); err != nil {
		t.Fatal(err)
	}
	u := l.upgraded(t, w)
	u.awaitAll("not proved to be this server", "\tready\t")
	u.kill()
	select {
	case err := <-g.ended:
		t.Errorf("the stranger ended: %v", err)
	default:
	}
}

// killedAtDeadline: a predecessor that does not confirm is ended, if the policy
// says so.
func killedAtDeadline(t *testing.T, w *wine) {
	l := w.loading(t)
	l.args = append(l.args, "-deaf")
	u := l.upgraded(t, w, "--unconfirmed", "kill", "--confirm-timeout", "300ms")
	u.ready()
	u.do(0, "restart")
	u.kill()
}
