package launch

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestInterpreterLine(t *testing.T) {
	for _, c := range []struct {
		line        string
		script      bool
		interpreter string
		argument    string
	}{
		{"", false, "", ""},
		{"#", false, "", ""},
		{"\x7fELF", false, "", ""},
		{"#!/bin/sh\necho", true, "/bin/sh", ""},
		{"#! /bin/sh", true, "/bin/sh", ""},
		{"#!\t/usr/bin/env  python3 -u \nx", true, "/usr/bin/env", "python3 -u"},
		{"#!/bin/sh\x00\x00", true, "/bin/sh", ""},
		{"#!\n", true, "", ""},
	} {
		script, interpreter, argument := interpreterLine([]byte(c.line))
		if script != c.script || interpreter != c.interpreter || argument != c.argument {
			t.Errorf("%q: %v %q %q", c.line, script, interpreter, argument)
		}
	}
}

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func TestHoldErrors(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	writeFile(t, plain, "x", 0o644)
	t.Setenv("PATH", dir)
	for _, c := range []struct {
		command string
		want    error
		code    int
	}{
		{"", ErrNotFound, 127},
		{"no-such-command", ErrNotFound, 127},
		{filepath.Join(dir, "none"), ErrNotFound, 127},
		{filepath.Join(plain, "below-a-file"), ErrNotFound, 127},
		{dir, ErrDirectory, 126},
		{plain, ErrNotExecutable, 126},
		{"plain", ErrNotExecutable, 126},
	} {
		h, err := Hold(c.command)
		if !errors.Is(err, c.want) || ExitCode(err) != c.code {
			t.Errorf("Hold(%q): %v, %v; want %v", c.command, h, err, c.want)
		}
	}
}

func hold1(t *testing.T, dir, command string) *Held {
	t.Helper()
	h, err := HoldIn(dir, command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func TestHoldFollowsAndCompares(t *testing.T) {
	dir := t.TempDir()
	one, two, link := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "current")
	writeFile(t, one, "#!/bin/sh -e\nexit 1\n", 0o755)
	writeFile(t, two, "#!/bin/sh\nexit 2\n", 0o755)
	if err := os.Symlink("one", link); err != nil {
		t.Skip("symbolic links:", err)
	}
	h := hold1(t, dir, "./current")
	real, err := filepath.EvalSymlinks(one)
	if err != nil {
		t.Fatal(err)
	}
	if h.Name != link || h.Path != real || !h.Script || h.Interpreter != "/bin/sh" || h.Argument != "-e" {
		t.Fatalf("held: %+v", h)
	}
	if !h.Same() || !h.Intact() {
		t.Fatal("not the same at once")
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if h.Same() {
		t.Error("same without a name")
	}
	if err := os.Symlink("two", link); err != nil {
		t.Fatal(err)
	}
	if h.Same() || !h.Intact() {
		t.Errorf("link moved: same %v, intact %v", h.Same(), h.Intact())
	}
	if err := os.Rename(two, one); err != nil {
		t.Fatal(err)
	}
	if h.Same() || !h.Intact() {
		t.Errorf("replaced: same %v, intact %v", h.Same(), h.Intact())
	}
}

func TestHeldOverwritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "script")
	writeFile(t, path, "#!/bin/sh\nexit 1\n", 0o755)
	h := hold1(t, "", path)
	writeFile(t, path, "#!/bin/sh\nexit 2\n", 0o755) // same size: the time tells
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, future, future); err != nil {
		t.Fatal(err)
	}
	if h.Same() || h.Intact() {
		t.Errorf("overwritten in place: same %v, intact %v", h.Same(), h.Intact())
	}
	if copied, err := h.CopyTo(dir); err == nil {
		t.Errorf("copied what it was not: %s", copied)
	}
}

func TestCopyTo(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "script")
	content := "#!/bin/sh -e\necho \"$@\"\n"
	writeFile(t, path, content, 0o755)
	h := hold1(t, "", path)
	copied, err := h.CopyTo(state)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(copied); err != nil || string(got) != content {
		t.Fatalf("copy: %q, %v", got, err)
	}
	again, err := h.CopyTo(state)
	if err != nil || again != copied {
		t.Fatalf("second copy: %q, %v; want %q", again, err, copied)
	}
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) != 1 {
		t.Fatalf("left in the directory: %v, %v", entries, err)
	}
	command, argv := h.Command(copied, []string{"script", "a", "b"})
	if want := []string{"/bin/sh", "-e", copied, "a", "b"}; command != "/bin/sh" || !slices.Equal(argv, want) {
		t.Errorf("command: %s %q, want %q", command, argv, want)
	}
}
