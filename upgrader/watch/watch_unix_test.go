//go:build unix

package watch

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const patience = 30 * time.Second

// watched is a path under watch.
type watched struct {
	t       *testing.T
	path    string
	changed chan struct{}
	refused chan error
}

func watchPath(t *testing.T, path string) *watched {
	t.Helper()
	w := &watched{t: t, path: path, changed: make(chan struct{}, 100), refused: make(chan error, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	run, err := New(Config{
		Path: path, Quiet: 20 * time.Millisecond,
		Changed: func() { w.changed <- struct{}{} },
		Refused: func(err error) { w.refused <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- run.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *watched) mustChange() {
	w.t.Helper()
	select {
	case <-w.changed:
	case err := <-w.refused:
		w.t.Fatalf("refused: %v", err)
	case <-time.After(patience):
		w.t.Fatal("the change was not told")
	}
}

func (w *watched) mustRefuse(why string) {
	w.t.Helper()
	select {
	case <-w.changed:
		w.t.Fatal("it was told as a change")
	case err := <-w.refused:
		if !strings.Contains(err.Error(), why) {
			w.t.Fatalf("refused with %q, want %q", err, why)
		}
	case <-time.After(patience):
		w.t.Fatal("it was not refused")
	}
}

// calm makes a last change, which must be the only one that is left to be told.
func (w *watched) calm() {
	w.t.Helper()
	replace(w.t, w.path, "#!/bin/sh\n# the last one\n", 0o755)
	w.mustChange()
	select {
	case <-w.changed:
		w.t.Error("a change was told twice")
	case err := <-w.refused:
		w.t.Error(err)
	default:
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file there by rename.
func replace(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	write(t, path+".new", text, mode)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	replace(t, path, "#!/bin/sh\n", 0o755)
	w := watchPath(t, path)
	for _, text := range []string{"#!/bin/sh\n# second\n", "#!/bin/sh\n# the third\n"} {
		replace(t, path, text, 0o755)
		w.mustChange()
	}
	// Gone and there again.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, "#!/bin/sh\n# after that\n", 0o755)
	w.mustChange()
	w.calm()
}

// TestWrittenInPlace: a file is told once its writer has closed it, and once.
func TestWrittenInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	replace(t, path, "#!/bin/sh\n", 0o755)
	w := watchPath(t, path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("#!/bin/sh\n"); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && !beingWritten(path) {
		t.Log("leases cannot be had here: that the file is open is not seen")
	}
	for range 50 {
		if _, err := f.WriteString("# another line\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.mustChange()
	w.calm()
}

// TestOpenForWriting: what somebody still writes is not told, however long
// nothing happens to it.
func TestOpenForWriting(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "server")
	replace(t, path, "#!/bin/sh\n", 0o755)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("#!/bin/sh\nhalf"); err != nil {
		t.Fatal(err)
	}
	if !beingWritten(path) {
		t.Skip("needs leases, F_SETLEASE")
	}
	v := &Watch{config: Config{Path: path, Changed: func() { t.Error("it was told") }, Refused: func(err error) { t.Error(err) }}}
	if v.look() {
		t.Error("a file that is being written was looked at")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if beingWritten(path) {
		t.Error("it is closed")
	}
}

func TestRefused(t *testing.T) {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip("needs /proc/self/exe")
	}
	path := filepath.Join(t.TempDir(), "server")
	replace(t, path, "#!/bin/sh\n", 0o755)
	w := watchPath(t, path)
	for why, of := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"cut short":      {string(exe[:len(exe)/2]), 0o755},
		"at least":       {string(exe[:50]), 0o755},
		"empty":          {"", 0o755},
		"not executable": {string(exe), 0o644},
	} {
		replace(t, path, of.text, of.mode)
		w.mustRefuse(why)
	}
	replace(t, path, "#!/bin/sh\n# to become executable\n", 0o644)
	w.mustRefuse("not executable")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	w.mustChange()
	replace(t, path, string(exe), 0o755)
	w.mustChange()
	w.calm()
}

// TestLinks: releases are folders, and a link says which one is in use.
func TestLinks(t *testing.T) {
	root := t.TempDir()
	for _, release := range []string{"1", "2", "3"} {
		if err := os.MkdirAll(filepath.Join(root, "releases", release), 0o755); err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(root, "releases", release, "server"), "#!/bin/sh\n# "+release+"\n", 0o755)
	}
	current := filepath.Join(root, "current")
	point := func(release string) {
		t.Helper()
		if err := os.Symlink("releases/"+release, current+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(current+".new", current); err != nil {
			t.Fatal(err)
		}
	}
	point("1")
	w := watchPath(t, filepath.Join(current, "server"))
	point("2")
	w.mustChange()
	point("3")
	w.mustChange()
	// The file behind the link, too.
	replace(t, filepath.Join(root, "releases", "3", "server"), "#!/bin/sh\n# three again\n", 0o755)
	w.mustChange()
	// The folder is away for a while.
	if err := os.Remove(current); err != nil {
		t.Fatal(err)
	}
	point("1")
	w.mustChange()
	w.path = filepath.Join(root, "releases", "1", "server")
	w.calm()
}

// TestFolderReplaced: a deployment may replace the whole folder.
func TestFolderReplaced(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "app")
	make := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(root, name, "server"), text, 0o755)
	}
	make("app", "#!/bin/sh\n")
	w := watchPath(t, filepath.Join(dir, "server"))
	for _, text := range []string{"#!/bin/sh\n# second\n", "#!/bin/sh\n# the third\n"} {
		make("next", text)
		if err := os.Rename(dir, dir+".old"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(root, "next"), dir); err != nil {
			t.Fatal(err)
		}
		w.mustChange()
		if err := os.RemoveAll(dir + ".old"); err != nil {
			t.Fatal(err)
		}
	}
	w.calm()
}
