package tail

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// used is what the file takes on disk, in bytes.
func used(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// places are directories on file systems that take space back in different
// ways.
func places(t *testing.T) map[string]string {
	t.Helper()
	at := map[string]string{"temporary": t.TempDir()}
	if dir, err := os.MkdirTemp("/dev/shm", "tail-"); err == nil { // tmpfs, which cannot collapse
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		at["memory"] = dir
	}
	return at
}

const testMax = 512 << 10

// Whatever way the file system has, nothing is lost and nothing is doubled,
// and the disk gets its space back.
func TestEveryByteOnce(t *testing.T) {
	places := places(t)
	for name, dir := range places {
		for how, first := range map[string]releaser{"collapse": collapse, "punch": punch, "truncate": truncate} {
			if name != "memory" && how == "truncate" && len(places) > 1 {
				continue // the same everywhere
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				out := &sink{}
				tl := open(t, Config{Path: filepath.Join(dir, "stderr."+how), To: out, Max: testMax})
				tl.mu.Lock()
				tl.release = first
				tl.mu.Unlock()
				var want bytes.Buffer
				caughtUp := func() bool {
					tl.mu.Lock()
					defer tl.mu.Unlock()
					return tl.sent == int64(want.Len())
				}
				for i := range 20 {
					line := strings.Repeat(string(rune('a'+i%26)), 100_000) + "\n"
					want.WriteString(line)
					if how == "truncate" { // it loses what is written in that very moment
						tl.mu.Lock()
						_, err := tl.File().WriteString(line)
						tl.mu.Unlock()
						if err != nil {
							t.Fatal(err)
						}
					} else {
						write(t, tl, line)
					}
					// Never so far ahead that anything would be left out.
					if i%2 == 1 || how == "truncate" {
						until(t, "the writer caught up", caughtUp)
					}
				}
				until(t, "everything was forwarded", caughtUp)
				if out.String() != want.String() {
					t.Error("what was forwarded is not what was written")
				}
				if n := used(t, tl.Path()); n > 2*testMax {
					t.Errorf("the file takes %d bytes, its bound is about %d", n, testMax)
				}
			})
		}
	}
}

// A server that floods, and a reader that takes nothing: the space stays
// bounded, the end is remembered, and what is missing is said.
func TestFlood(t *testing.T) {
	for name, dir := range places(t) {
		t.Run(name, func(t *testing.T) {
			out := &sink{hold: make(chan struct{})}
			tl := open(t, Config{Path: filepath.Join(dir, "stderr.flood"), To: out, Max: testMax})
			c := server(t, "flood", tl)
			if err := c.Run(); err != nil {
				t.Fatal(err)
			}
			write(t, tl, "the end\n")
			until(t, "the end is remembered", func() bool { return last(tl) == "the end" })
			until(t, "the space was given back", func() bool { return used(t, tl.Path()) <= 2*testMax })
			close(out.hold)
			if err := tl.Close(); err != nil {
				t.Fatal(err)
			}
			got := out.String()
			if !strings.HasSuffix(got, "\nthe end\n") || !strings.Contains(got, " bytes of stderr were left out]\n") {
				t.Errorf("%d bytes were forwarded, the last are %q", len(got), got[max(0, len(got)-100):])
			}
			if len(got) > 4*testMax {
				t.Errorf("%d bytes were forwarded of what should have been left out", len(got))
			}
		})
	}
}

// The user may be out of inotify instances: then the file is polled.
func TestWatchesANamelessFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	n, err := newNotifier(f)
	if err != nil {
		t.Skip("no inotify here: ", err)
	}
	defer n.close()
	if _, err := f.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	<-n.changed()
}
