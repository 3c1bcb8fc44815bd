package shmbridge

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// folder is one that wine can remove: it knows no RemoveAll.
func folder(t *testing.T) string {
	dir, err := os.MkdirTemp("", "section")
	must(t, err)
	t.Cleanup(func() {
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			must(t, os.Remove(filepath.Join(dir, e.Name())))
		}
		must(t, os.Remove(dir))
	})
	return dir
}

func sectionName(t *testing.T) string {
	return "shmbridge-" + strings.NewReplacer("/", "-", `\`, "-").Replace(t.Name())
}

func openSpec(t *testing.T, text string) *Segment {
	t.Helper()
	spec, err := ParseSpec(text)
	must(t, err)
	s, err := Open(spec, Config{})
	must(t, err)
	return s
}

func bytesOf(t *testing.T, s *Segment) []byte {
	t.Helper()
	b, err := s.memory()
	must(t, err)
	return b
}

func stateOf(t *testing.T, s *Segment) State {
	t.Helper()
	now, err := s.State()
	must(t, err)
	return now.State
}

// TestSectionOfOthers: a section that somebody else makes is never made by us,
// and what it holds is vouched for by nobody.
func TestSectionOfOthers(t *testing.T) {
	name := sectionName(t)
	spec, err := ParseSpec("section:" + name)
	must(t, err)
	_, err = Open(spec, Config{})
	mustBe(t, err, fs.ErrNotExist)
	h, existed, err := createSection(name, 10000, nil)
	must(t, err)
	if existed {
		t.Fatal("it was there")
	}
	s, err := Open(spec, Config{})
	must(t, err)
	if s.Size() < 10000 || s.Created() || stateOf(t, s) != Unsaved {
		t.Errorf("size %d, created %v, %v", s.Size(), s.Created(), stateOf(t, s))
	}
	who, err := s.MappedBy()
	must(t, err)
	if who.Hidden != 1 {
		t.Errorf("%d handles of others, not 1", who.Hidden)
	}
	_, err = Open(spec, Config{})
	mustBe(t, err, ErrLocked)
	must(t, windows.CloseHandle(h))
	if who, err = s.MappedBy(); err != nil || who.Hidden != 0 {
		t.Errorf("%+v, %v", who, err)
	}
	must(t, s.Close())
	_, err = Open(spec, Config{})
	mustBe(t, err, fs.ErrNotExist) // we were the last
}

// TestSectionSizes: what exists is not resized.
func TestSectionSizes(t *testing.T) {
	name, dir := sectionName(t), folder(t)
	h, _, err := createSection(name, 100000, nil)
	must(t, err)
	defer windows.CloseHandle(h)
	for _, size := range []string{"4096", "1M"} {
		spec, err := ParseSpec("section:" + name + ",size=" + size)
		must(t, err)
		_, err = Open(spec, Config{})
		mustBe(t, err, ErrSize)
	}
	path := filepath.Join(dir, "memory")
	must(t, os.WriteFile(path, make([]byte, 5000), 0o600))
	spec, err := ParseSpec("section:" + name + "-file,size=6000,file=" + path)
	must(t, err)
	_, err = Open(spec, Config{})
	mustBe(t, err, ErrSize)
	spec.Size = 0
	s, err := Open(spec, Config{})
	must(t, err)
	if s.Size() != 5000 || stateOf(t, s) != Unsaved {
		t.Errorf("size %d, %v", s.Size(), stateOf(t, s))
	}
	must(t, s.Close())
}

// TestSectionInFile: bytes and page are there again, saved or not.
func TestSectionInFile(t *testing.T) {
	name, dir := sectionName(t), folder(t)
	text := "section:" + name + ",size=10000,file=" + filepath.Join(dir, "memory")
	s := openSpec(t, text)
	if stateOf(t, s) != Fresh {
		t.Error(stateOf(t, s))
	}
	must(t, s.Lease(1, 0))
	bytesOf(t, s)[9999] = 7
	_, err := s.Ended(1, ExitClean)
	must(t, err)
	must(t, s.Close())
	s = openSpec(t, text)
	if stateOf(t, s) != Saved || bytesOf(t, s)[9999] != 7 {
		t.Error(stateOf(t, s), bytesOf(t, s)[9999])
	}
	must(t, s.Lease(1, 0)) // another upgrader counts from 1 again
	must(t, s.Close())
	s = openSpec(t, text)
	if stateOf(t, s) != Unsaved { // its upgrader was gone before it said anything
		t.Error(stateOf(t, s))
	}
	must(t, s.Remove())
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// TestSectionSnapshots: taken while it is written, put back in place, unless
// somebody else has it.
func TestSectionSnapshots(t *testing.T) {
	ctx := context.Background()
	store, err := OpenStore(folder(t), StoreConfig{Keep: 2})
	must(t, err)
	name := sectionName(t)
	s := openSpec(t, "section:"+name+",size=100000")
	defer s.Close()
	b := bytesOf(t, s)
	for n := range byte(4) { // the spare is used again, and the oldest ones go
		must(t, s.Lease(int(n)+1, 0))
		b[50000] = n
		taking, err := store.Begin(s)
		must(t, err)
		must(t, taking.First(ctx))
		b[99999] = n
		_, err = s.Ended(int(n)+1, ExitClean)
		must(t, err)
		must(t, taking.Second(ctx))
		_, err = taking.Commit()
		must(t, err)
	}
	list, err := store.List(s.Spec())
	must(t, err)
	if len(list) != 2 || list[0].Number != 3 || list[1].State != Saved {
		t.Fatalf("%+v", list)
	}
	for i := range b {
		b[i] = 0xff
	}
	h, err := openSection(name)
	must(t, err)
	mustBe(t, store.Restore(ctx, s, list[1], RestoreOptions{}), ErrMapped)
	must(t, windows.CloseHandle(h))
	must(t, store.Restore(ctx, s, list[1], RestoreOptions{}))
	if b[50000] != 3 || b[99999] != 3 || b[0] != 0 || stateOf(t, s) != Saved {
		t.Error(b[50000], b[99999], b[0], stateOf(t, s))
	}
}

// TestSectionGuest: a process that has the environment of a generation joins.
func TestSectionGuest(t *testing.T) {
	ctx := context.Background()
	s := openSpec(t, "section:"+sectionName(t)+",size=8192")
	defer s.Close()
	must(t, s.Lease(1, 0))
	env, err := s.Environ()
	must(t, err)
	found := map[string]string{EnvGeneration: "1"}
	for _, v := range env {
		key, value, _ := strings.Cut(v, "=")
		found[key] = value
	}
	b, err := AttachTo(func(key string) string { return found[key] })
	must(t, err)
	lease, err := b.Take(ctx, 5)
	must(t, err)
	b.Bytes()[8191] = 9
	must(t, lease.Save(0))
	must(t, b.Close())
	if now, err := s.State(); err != nil || now.State != Saved || !now.Managed || now.Schema != 5 || bytesOf(t, s)[8191] != 9 {
		t.Errorf("%+v, %v", now, err)
	}
	mustBe(t, s.Accepts([]uint64{6}), ErrSchema)

	d, err := s.Draft(ctx)
	must(t, err)
	command, err := d.Command()
	must(t, err)
	if len(command.Files) != 0 || !strings.Contains(strings.Join(command.Env, " "), EnvPath+"=section:upgrader-draft-") {
		t.Errorf("%q", command.Env)
	}
	bytesOf(t, d.segment)[0] = 6
	must(t, d.Finish(6))
	store, err := OpenStore(folder(t), StoreConfig{})
	must(t, err)
	snap, err := s.Snapshot(ctx, store)
	must(t, err)
	must(t, store.Migrate(ctx, s, d, snap, 6, RestoreOptions{}))
	must(t, d.Close())
	if now, err := s.State(); err != nil || now.Schema != 6 || bytesOf(t, s)[0] != 6 || bytesOf(t, s)[8191] != 9 {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestSectionRefused: names of other objects, files that cannot be.
func TestSectionRefused(t *testing.T) {
	name := sectionName(t)
	utf16, err := windows.UTF16PtrFromString(name)
	must(t, err)
	h, err := windows.CreateEvent(nil, 0, 0, utf16)
	must(t, err)
	defer windows.CloseHandle(h)
	spec, err := ParseSpec("section:" + name + ",size=4096")
	must(t, err)
	if s, err := Open(spec, Config{}); err == nil {
		t.Errorf("an event is a section: %v", s.Close())
	}
	spec, err = ParseSpec("section:" + name + "-dir,size=4096,file=" + folder(t))
	must(t, err)
	if s, err := Open(spec, Config{}); err == nil {
		t.Errorf("a folder is a file: %v", s.Close())
	}
	if _, err := Open(Spec{Kind: File, Name: "x", Size: 1}, Config{}); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}
