package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func ours() string { return strconv.Itoa(os.Getpid()) + "\n" }

func TestPidFile(t *testing.T) {
	for name, before := range map[string]string{
		"none": "-", "empty": "", "garbage": "what\n", "gone": "1073741824\n", "init": "1\n", "ours": ours(), "no newline": "1",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.pid")
			if before != "-" {
				write(t, path, before) // nobody has its lock: it is stale, whoever has the pid now
			}
			p, err := WritePidFile(PidFileConfig{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, path); got != ours() {
				t.Errorf("it says %q", got)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode() != 0o644 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			_, err = WritePidFile(PidFileConfig{Path: path})
			var taken *PidFileError
			if !errors.As(err, &taken) || taken.Pid != os.Getpid() {
				t.Errorf("a second one: %v", err)
			}
			if err := p.Remove(); err != nil {
				t.Fatal(err)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

func TestPidFileOfARunningProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	p := start(t, "pid", nil, path)
	pid := p.Process.Pid
	if got := read(t, path); got != fmt.Sprintf("%d\n", pid) {
		t.Fatalf("it says %q", got)
	}
	_, err := WritePidFile(PidFileConfig{Path: path})
	var taken *PidFileError
	if !errors.As(err, &taken) || taken.Pid != pid || taken.Path != path || !strings.Contains(err.Error(), strconv.Itoa(pid)) {
		t.Fatalf("while it runs: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	heir, err := WritePidFile(PidFileConfig{Path: path, Predecessor: pid})
	if err != nil {
		t.Fatal("its heir:", err)
	}
	if got := read(t, path); got != ours() {
		t.Errorf("it says %q", got)
	}
	p.kill()
	if err := heir.Remove(); err != nil {
		t.Fatal(err)
	}
}

func TestPidFileAfterKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	start(t, "pid", nil, path).kill()
	if _, err := os.Stat(path); err != nil {
		t.Fatal("the killed one left nothing:", err)
	}
	p, err := WritePidFile(PidFileConfig{Path: path, Pid: 4711})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "4711\n" {
		t.Errorf("it says %q", got)
	}
	if err := p.Remove(); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreRemovedOnlyIfOurs(t *testing.T) {
	dir := t.TempDir()
	p, err := WritePidFile(PidFileConfig{Path: filepath.Join(dir, "app.pid")})
	if err != nil {
		t.Fatal(err)
	}
	s := NewStatusFile(filepath.Join(dir, "status"))
	if err := s.Remove(); err != nil {
		t.Error("before it was written:", err)
	}
	if err := s.Write(map[int]int{1: 2}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app.pid", "status"} {
		write(t, filepath.Join(dir, "other"), "1\n")
		if err := os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.Remove(), s.Remove()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"app.pid", "status"} {
		if got := read(t, filepath.Join(dir, name)); got != "1\n" {
			t.Errorf("%s says %q", name, got)
		}
	}
}

func TestOneOfManyGetsThePidFile(t *testing.T) {
	for name, before := range map[string]string{"new": "", "stale": "1073741824\n"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.pid")
			if before != "" {
				write(t, path, before)
			}
			var mu sync.Mutex
			var got []*PidFile
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					p, err := WritePidFile(PidFileConfig{Path: path})
					var taken *PidFileError
					if err != nil && (!errors.As(err, &taken) || taken.Pid != os.Getpid()) {
						t.Error(err)
					}
					if err == nil {
						mu.Lock()
						defer mu.Unlock()
						got = append(got, p)
					}
				})
			}
			all.Wait()
			if len(got) != 1 {
				t.Errorf("%d got it", len(got))
			}
			for _, p := range got {
				if err := p.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestFilesFailClearly(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		filepath.Join(dir, "none", "x"): "no such file or directory",
		dir:                             "is not a regular file",
		link:                            "is not a regular file",
		"/dev/null":                     "is not a regular file",
		"/proc/x.pid":                   "state: write /proc/x.pid: ",
	} {
		_, err := WritePidFile(PidFileConfig{Path: path})
		for _, err := range []error{err, NewStatusFile(path).Write(nil)} {
			if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

func TestStatusFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	f := NewStatusFile(path)
	for _, c := range []struct {
		pids map[int]int
		want string
	}{
		{nil, ""},
		{map[int]int{1: 100}, "1:100\n"},
		{map[int]int{9: 1, 10: 2, 2: 3}, "10:2\n2:3\n9:1\n"}, // as strings
	} {
		if err := f.Write(c.pids); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != c.want {
			t.Errorf("%v: %q", c.pids, got)
		}
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}
