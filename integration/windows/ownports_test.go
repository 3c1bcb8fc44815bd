package windows

import (
	"path/filepath"
	"strings"
	"testing"
)

// testOwnPorts runs servers that bind their port by themselves, and have no
// proxy before them: for how long nobody listened is measured.
func testOwnPorts(t *testing.T, w *wine) {
	t.Run("closes its port", func(t *testing.T) { t.Parallel(); ownPorts(t, w, 3, "close linger=1500") })
	t.Run("keeps its port", func(t *testing.T) { t.Parallel(); ownPorts(t, w, 3, "leave linger=1500") })
	t.Run("a successor that waits for the port by itself", func(t *testing.T) {
		t.Parallel()
		port := w.port(t)
		u := w.binding(t, port, "guest.exe", "-listen", "127.0.0.1:"+port, "-linger", "1s")
		for range 3 {
			u.swapsWithGap()
		}
		u.stop()
	})
}

// ownPorts swaps an unmodified server, which ends at once when its port is in use.
func ownPorts(t *testing.T, w *wine, swaps int, ends string) {
	port := w.port(t)
	args := []string{"asked", w.path(filepath.Join(w.folder(t), "server.pid")), "stop=50", "port=" + port}
	u := w.binding(t, port, "peer.exe", append(args, strings.Fields("ends="+ends)...)...)
	for range swaps {
		u.swapsWithGap()
	}
	u.stop()
}

// binding starts an upgrader with a server that binds by itself.
func (w *wine) binding(t *testing.T, port, program string, args ...string) *upgrader {
	t.Helper()
	u := &upgrader{w: w, state: w.path(w.folder(t)), address: "127.0.0.1:" + port}
	flags := []string{"--ask", "events", "--state-dir", u.state, "--stop-timeout", "60s", "--ready", "tcp=" + u.address, "--", w.path(filepath.Join(w.dir, program))}
	u.guest = w.start(t, "upgrader.exe", append(flags, args...)...)
	u.ready()
	return u
}

// swapsWithGap swaps once: it is committed, whatever the first try came to, and
// the gap is told to whoever asked, and in the log.
func (u *upgrader) swapsWithGap() {
	u.Helper()
	g := u.do(0, "restart")
	u.Log(g.awaitPart("committed"), g.awaitPart("gap "))
	u.awaitPart("nobody listened for")
}
