package tail

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestForwardsAndRemembers(t *testing.T) {
	for name, path := range map[string]string{"named": filepath.Join(t.TempDir(), "stderr.1"), "nameless": ""} {
		t.Run(name, func(t *testing.T) {
			out := &sink{}
			tl := open(t, Config{Path: path, To: out})
			write(t, tl, "\xff\x1b[31mraw\nnext")
			until(t, "both lines", func() bool { return last(tl) == "next" && out.String() == "\xff\x1b[31mraw\nnext" })
			if got := tl.Tail(20); !slices.Equal(got, []string{`\xff\x1b[31mraw`, "next"}) {
				t.Errorf("%q", got)
			}
			if path != "" {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm()&0o077 != 0 {
					t.Errorf("others may read it: %v", info.Mode())
				}
			}
			write(t, tl, " and end\n")
			if err := tl.Close(); err != nil {
				t.Error(err)
			}
			if got := out.String(); got != "\xff\x1b[31mraw\nnext and end\n" {
				t.Errorf("after Close: %q", got)
			}
			if last(tl) != "next and end" {
				t.Errorf("Tail after Close: %q", tl.Tail(20))
			}
			if err := tl.Close(); err != nil {
				t.Errorf("a second Close: %v", err)
			}
			if path != "" {
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the file is still there: %v", err)
				}
			}
		})
	}
}

func TestServerWritesToIt(t *testing.T) {
	out := &sink{}
	tl := open(t, Config{Path: filepath.Join(t.TempDir(), "stderr.1"), To: out})
	if err := server(t, "say", tl).Run(); err != nil {
		t.Fatal(err)
	}
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
	if out.String() != "first line\nlast words" || !slices.Equal(tl.Tail(20), []string{"first line", "last words"}) {
		t.Errorf("forwarded %q, remembered %q", out.String(), tl.Tail(20))
	}
}

// A server can write on when nobody follows any more.
func TestTheFileOutlivesUs(t *testing.T) {
	tl := open(t, Config{Path: filepath.Join(t.TempDir(), "stderr.1")})
	theirs, err := os.OpenFile(tl.Path(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.WriteString("still here\n"); err != nil {
		t.Error(err)
	}
}

func TestALeftFileIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stderr.1")
	if err := os.WriteFile(path, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tl := open(t, Config{Path: path})
	write(t, tl, "new\n")
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
	if got := tl.Tail(20); !slices.Equal(got, []string{"new"}) {
		t.Errorf("%q", got)
	}
	if _, err := New(filepath.Join(path, "missing", "x"), nil); err == nil {
		t.Error("a file in no directory was made")
	}
}

func TestReleaseAndAttach(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stderr.1")
	first := &sink{}
	one := open(t, Config{Path: path, To: first})
	write(t, one, "a\nb\n")
	theirs, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := one.Release(); err != nil {
		t.Fatal(err)
	}
	if first.String() != "a\nb\n" || one.Offset() != 4 {
		t.Errorf("forwarded %q, offset %d", first.String(), one.Offset())
	}
	if _, err := theirs.WriteString("c\n"); err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[int64]string{one.Offset(): "c\n", -1: "", 1 << 40: "", 0: "a\nb\nc\n"} {
		out := &sink{}
		two, err := Attach(Config{Path: path, To: out}, offset)
		if err != nil {
			t.Fatal(err)
		}
		err = two.Release()
		if got := two.Tail(20); err != nil || out.String() != want || !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("from %d: forwarded %q, remembered %q, %v", offset, out.String(), got, err)
		}
	}
	last, err := Attach(Config{Path: path}, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(Config{Path: path}, 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("attached to a file that is gone: %v", err)
	}
}

// A shell's `> /dev/stderr` truncates the file.
func TestTruncatedByOthers(t *testing.T) {
	out := &sink{}
	tl := open(t, Config{Path: filepath.Join(t.TempDir(), "stderr.1"), To: out})
	write(t, tl, "a long line to begin with\n")
	until(t, "the first line", func() bool { return out.String() != "" })
	if err := os.WriteFile(tl.Path(), []byte("short\n"), 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the short line", func() bool { return last(tl) == "short" })
	write(t, tl, "appended\n")
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "a long line to begin with\nshort\nappended\n" {
		t.Errorf("%q", got)
	}
}

func TestAWriterThatFails(t *testing.T) {
	broken := errors.New("broken")
	tl := open(t, Config{Path: filepath.Join(t.TempDir(), "stderr.1"), To: writerFunc(func([]byte) (int, error) { return 0, broken })})
	write(t, tl, "kept\n")
	if err := tl.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
	if last(tl) != "kept" {
		t.Errorf("%q", tl.Tail(20))
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestAWriterThatHangs(t *testing.T) {
	out := &sink{hold: make(chan struct{})}
	tl := open(t, Config{Path: filepath.Join(t.TempDir(), "stderr.1"), To: out, Flush: 10 * time.Millisecond})
	write(t, tl, "one\n")
	until(t, "the line is remembered", func() bool { return last(tl) == "one" })
	if err := tl.Close(); !errors.Is(err, ErrStuck) {
		t.Errorf("Close: %v", err)
	}
	close(out.hold)
	<-tl.forwarded
}

// With nothing that tells of changes the file is looked at.
func TestPolled(t *testing.T) {
	tl := open(t, Config{Path: filepath.Join(t.TempDir(), "stderr.1")})
	p := newPoller(time.Millisecond)
	for range 3 {
		<-p.changed()
	}
	p.close()
	write(t, tl, strings.Repeat("x", 10))
	until(t, "the line", func() bool { return last(tl) == "xxxxxxxxxx" })
}
