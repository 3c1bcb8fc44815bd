package winevents

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	born := time.Date(2024, 5, 1, 12, 0, 0, 123456700, time.UTC)
	found := Identity{Pid: 8, Created: born, Executable: `C:\srv\Server.exe`}
	tests := []struct {
		name  string
		claim claim
		found Identity
		want  verdict
	}{
		{"same time", claim{Identity: Identity{Pid: 8, Created: born}}, found, same},
		{"same time, renamed since", claim{Identity: Identity{Pid: 8, Created: born, Executable: "old.exe"}}, found, same},
		{"same time elsewhere on earth", claim{Identity: Identity{Pid: 8, Created: born.In(time.FixedZone("", 7200))}}, found, same},
		{"100 ns apart", claim{Identity: Identity{Pid: 8, Created: born.Add(100), Executable: found.Executable}}, found, another},
		{"same executable", claim{Identity: Identity{Pid: 8, Executable: `c:/SRV/server.EXE`}}, found, same},
		{"same file name", claim{Identity: Identity{Pid: 8, Executable: `server.exe`}}, found, same},
		{"another directory", claim{Identity: Identity{Pid: 8, Executable: `C:\old\server.exe`}}, found, unproved},
		{"another executable", claim{Identity: Identity{Pid: 8, Executable: `notepad.exe`}}, found, unproved},
		{"nothing claimed", claim{Identity: Identity{Pid: 8}}, found, unproved},
		{"nothing found", claim{Identity: Identity{Pid: 8, Created: born}}, Identity{Pid: 8}, unproved},
		{"time not found, executable is", claim{Identity: Identity{Pid: 8, Created: born, Executable: "server.exe"}},
			Identity{Pid: 8, Executable: found.Executable}, same},
		{"another id", claim{Identity: Identity{Pid: 12, Created: born}}, found, unproved},
		{"wrote the file", claim{Identity: Identity{Pid: 8}, written: born.Add(time.Second)}, found, same},
		{"wrote the file to a coarse clock", claim{Identity: Identity{Pid: 8}, written: born.Add(-time.Second)}, found, same},
		{"wrote the file, is the executable", claim{Identity: Identity{Pid: 8, Executable: "server.exe"}, written: born.Add(time.Hour)}, found, same},
		{"older than the file, another executable", claim{Identity: Identity{Pid: 8, Executable: "x.exe"}, written: born.Add(time.Hour)}, found, unproved},
		{"younger than the file", claim{Identity: Identity{Pid: 8}, written: born.Add(-time.Hour)}, found, another},
		{"younger than the file, another executable", claim{Identity: Identity{Pid: 8, Executable: "x.exe"}, written: born.Add(-time.Hour)}, found, another},
		{"younger than the file, same executable", claim{Identity: Identity{Pid: 8, Executable: "server.exe"}, written: born.Add(-time.Hour)}, found, unproved},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := judge(test.claim, test.found); got != test.want {
				t.Errorf("judged %d, want %d", got, test.want)
			}
		})
	}
}

func TestPidFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "GameServer_1.13.10.1.pid")
	id := Identity{Pid: 4242, Created: time.Date(2024, 5, 1, 12, 0, 0, 123456700, time.UTC), Executable: `C:\srv\server.exe`}
	if _, err := readPidFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := WritePidFile(path, id); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "4242" { // an unmodified peer takes all of it
		t.Errorf("wrote %q, %v", text, err)
	}
	c, err := readPidFile(path)
	if err != nil || c.Identity != id || c.written.IsZero() {
		t.Errorf("read %+v, %v", c, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Errorf("%d files, %v", len(entries), err)
	}
	if err := RemovePidFile(path, Identity{Pid: 1}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("another process's pid file was removed")
	}
	for range 2 {
		if err := RemovePidFile(path, id); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
}

func TestReadPidFile(t *testing.T) {
	proof := func(pid int) string {
		text, _ := json.Marshal(Identity{Pid: pid, Created: time.Unix(1, 0), Executable: "x.exe"})
		return string(text)
	}
	tests := []struct {
		name, text, proof string
		pid               int // 0: ErrPidFile
		proved            bool
	}{
		{"digits", "17", "", 17, false},
		{"line", "17\r\n", "", 17, false},
		{"proof", "17", proof(17), 17, true},
		{"proof of an earlier process", "17", proof(13), 17, false},
		{"broken proof", "17", `{"pid":17,"created":`, 17, false},
		{"largest", "4294967292", "", 4294967292, false},
		{"too large", "4294967296", "", 0, false},
		{"empty", "", "", 0, false}, // of an unmodified peer's atoi: 0
		{"zero", "0", "", 0, false},
		{"negative", "-1", "", 0, false},
		{"words", "17 server", "", 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pid")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if test.proof != "" {
				if err := os.WriteFile(path+sidecar, []byte(test.proof), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := readPidFile(path)
			if test.pid == 0 {
				if !errors.Is(err, ErrPidFile) {
					t.Errorf("read %+v, %v", c, err)
				}
				return
			}
			if err != nil || c.Pid != test.pid || !c.Created.IsZero() != test.proved {
				t.Errorf("read %+v, %v", c, err)
			}
		})
	}
}

func TestWritePidFileFails(t *testing.T) {
	dir := t.TempDir()
	if err := WritePidFile(filepath.Join(dir, "pid"), Identity{}); err == nil {
		t.Error("wrote no process")
	}
	if err := WritePidFile(filepath.Join(dir, "none", "pid"), Identity{Pid: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("wrote to nowhere: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "pid"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WritePidFile(filepath.Join(dir, "pid"), Identity{Pid: 1}); err == nil {
		t.Error("wrote over a directory")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.*")); err != nil || !slices.Equal(left, []string{filepath.Join(dir, "pid"+sidecar)}) {
		t.Errorf("left %q, %v", left, err)
	}
}

func TestNames(t *testing.T) {
	for signal, want := range map[Signal]string{
		Kill:        "NFServer_Kill_4242",
		KillSuccess: "NFServer_KillSuccess_4242",
		Reload:      "NFServer_Reload_4242",
		Stop:        "NFServer_Stop_4242",
		Quit:        "NFServer_Quit_4242",
	} {
		if got := signal.Name(4242); got != want {
			t.Errorf("name %s, want %s", got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	documents := Times{15000 * time.Millisecond, 10000 * time.Millisecond, 50 * time.Millisecond, 10 * time.Millisecond, 10 * time.Second}
	if got := (Times{}).withDefaults(); got != documents {
		t.Errorf("zero is %+v", got)
	}
	if got := (Times{-1, -1, -1, -1, -1}).withDefaults(); got != (Times{Poll: DefaultPoll}) {
		t.Errorf("negative is %+v", got)
	}
	if got := (Times{1, 2, 3, 4, 5}).withDefaults(); got != (Times{1, 2, 3, 4, 5}) {
		t.Errorf("set is %+v", got)
	}
}
