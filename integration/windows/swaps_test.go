package windows

import (
	"path/filepath"
	"strings"
	"testing"
)

// swapsEach is how many swaps each pairing of peers makes.
const swapsEach = 50

// testSwaps has servers succeed one another, each asking the one before. In a
// mixed chain ours asks an unmodified one and is asked by the next. Unmodified
// ones have a parent that holds their events, as the upgrader does: without, one
// in six swaps between them loses a signal on a busy machine. The chains run
// side by side, and keep the machine busy.
func testSwaps(t *testing.T, w *wine) {
	for _, kinds := range [][]string{{"Go"}, {"C++"}, {"Go", "C++"}} {
		t.Run(strings.Join(kinds, " and "), func(t *testing.T) {
			t.Parallel()
			pidFile := filepath.Join(w.folder(t), "server.pid")
			segment := clean(t.Name())
			holder := w.start(t, "holding.exe", w.path(pidFile))
			var last *guest
			for i := range swapsEach*len(kinds) + 1 {
				var next *guest
				if kinds[i%len(kinds)] == "Go" {
					next = w.start(t, "asked.exe", "-succeed", "-pidfile", w.path(pidFile), "-segment", segment, "-stop", "30ms", "-linger", "200ms")
				} else {
					next = w.start(t, "peer.exe", "serve", w.path(pidFile), "segment="+segment, "stop=30", "linger=200", "wait=120000")
				}
				if last != nil {
					last.await("stopping Kill")
					last.await("confirmed")
					next.await("result confirmed")
				}
				next.await("ready")
				holder.await("holding")
				if last != nil {
					last.await("exit")
					last.end(0)
				}
				last = next
			}
			check := w.start(t, "asking.exe", "-pidfile", w.path(pidFile), "-segment", segment)
			check.await("result confirmed saved")
			check.await("data kept, foreign 0")
			check.end(0)
		})
	}
}

// clean makes a test's name fit for an object: backslashes separate.
func clean(name string) string { return strings.NewReplacer("/", "_", `\`, "_").Replace(name) }
