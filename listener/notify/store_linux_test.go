package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func store(t *testing.T, c StoreConfig) *Store {
	t.Helper()
	s, err := NewStore(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// names are what is parked.
func names(s *Store) string {
	var out []string
	for _, e := range s.List() {
		out = append(out, e.Name)
	}
	return strings.Join(out, " ")
}

// memfd is a file that has no other end.
func memfd(t *testing.T, text string) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Skip("no memfd here: ", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f
}

func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	d, err := duplicate(f)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStore(t *testing.T) {
	s := store(t, StoreConfig{})
	r, w := pipe(t)
	if err := s.Add("", true, dup(t, w)); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("memory", true, memfd(t, "kept")); err != nil {
		t.Fatal(err)
	}
	r2, w2 := pipe(t)
	if err := s.Add("memory", false, w2); err != nil {
		t.Fatal(err)
	}
	if names(s) != "stored memory memory" {
		t.Errorf("%q", names(s))
	}
	// One description is parked once, under its first name.
	if err := s.Add("again", true, dup(t, w)); err != nil || names(s) != "stored memory memory" {
		t.Errorf("%q, %v", names(s), err)
	}
	if err := s.Add("a:b", true, dup(t, r)); err == nil {
		t.Error("a name with ':' was taken")
	}
	all, err := s.Duplicate()
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	b := make([]byte, 4)
	if n, err := all[1].File.ReadAt(b, 0); n != 4 || string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}
	if all[2].Poll || !all[1].Poll {
		t.Error("what was said of polling is lost")
	}
	for _, e := range all {
		_ = e.File.Close()
	}
	if n := s.Remove("memory"); n != 2 || names(s) != "stored" {
		t.Errorf("%d were removed, %q are left", n, names(s))
	}
	closed(t, r2, w2)
	taken := s.Take("stored")
	if len(taken) != 1 || names(s) != "" || s.Remove("stored") != 0 {
		t.Errorf("%v, %q", taken, names(s))
	}
	if _, err := taken[0].File.WriteString("x"); err != nil {
		t.Error(err)
	}
	_ = taken[0].File.Close()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	closed(t, r, w)
}

func TestCloseClosesEverything(t *testing.T) {
	s := store(t, StoreConfig{})
	r, w := pipe(t)
	if err := s.Add("x", true, dup(t, w)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("y", true, dup(t, w)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("parked in a closed store: %v", err)
	}
	closed(t, r, w) // the one that was refused too
}

func TestAFullStore(t *testing.T) {
	s := store(t, StoreConfig{Max: 2})
	r, w := pipe(t)
	files := []*os.File{memfd(t, "1"), memfd(t, "2"), dup(t, w)}
	if err := s.Add("x", false, files...); !errors.Is(err, ErrStoreFull) || names(s) != "x x" {
		t.Errorf("%q, %v", names(s), err)
	}
	closed(t, r, w)
	if err := s.Add("x", false, dup(t, files[0])); err != nil {
		t.Errorf("what is parked already needs no room: %v", err)
	}
}

// A connection whose other end is gone is dropped by itself; with FDPOLL=0 it
// stays.
func TestHangup(t *testing.T) {
	gone := make(chan Entry, 10)
	s := store(t, StoreConfig{Gone: func(e Entry) { gone <- e }})
	for _, poll := range []bool{true, false} {
		r, w := pipe(t)
		if err := s.Add(fmt.Sprint("pipe ", poll), poll, dup(t, r)); err != nil {
			t.Fatal(err)
		}
		_, _ = r.Close(), w.Close()
	}
	near, far := tcp(t)
	f, err := near.File()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add("tcp", true, f); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	_ = far.SetLinger(0) // a reset: both directions end
	_ = far.Close()
	var dropped []string
	for range 2 {
		select {
		case e := <-gone:
			dropped = append(dropped, e.Name)
			if e.File != nil {
				t.Error("a file that is closed was given")
			}
		case <-patient(t).Done():
			t.Fatalf("only %q were dropped", dropped)
		}
	}
	if slices.Sort(dropped); !slices.Equal(dropped, []string{"pipe true", "tcp"}) || names(s) != "pipe false" {
		t.Errorf("dropped %q, left %q", dropped, names(s))
	}
}

// A registration does not outlive its entry though others hold the
// description.
func TestNoHangupAfterTake(t *testing.T) {
	gone := make(chan Entry, 10)
	s := store(t, StoreConfig{Gone: func(e Entry) { gone <- e }})
	r, w := pipe(t)
	if err := s.Add("mine", true, dup(t, r)); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Take("mine") {
		defer e.File.Close()
	}
	_ = w.Close()
	r2, w2 := pipe(t)
	if err := s.Add("other", true, dup(t, r2)); err != nil {
		t.Fatal(err)
	}
	_ = w2.Close()
	if e := <-gone; e.Name != "other" {
		t.Errorf("%q was dropped", e.Name)
	}
}

func TestSameDescription(t *testing.T) {
	f := memfd(t, "")
	d := dup(t, f)
	defer d.Close()
	r, w := pipe(t)
	again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		t.Skip("no /proc here: ", err)
	}
	defer again.Close()
	for name, c := range map[string]struct {
		a, b *os.File
		want bool
	}{"a duplicate": {f, d, true}, "itself": {f, f, true}, "opened again": {f, again, false}, "the other end": {r, w, false}} {
		if got := sameDescription(c.a, c.b); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestStoreMessages(t *testing.T) {
	h := hear(t, true, nil)
	s := store(t, StoreConfig{})
	handle := func() error { t.Helper(); return s.Handle(h.next(t)) }
	near, far := tcp(t)
	if err := Park("conn", near); err != nil {
		t.Fatal(err)
	}
	if err := handle(); err != nil || names(s) != "conn" {
		t.Fatalf("%q, %v", names(s), err)
	}
	_ = near.Close()
	for _, e := range s.Take("conn") { // the connection outlived its server
		c, err := net.FileConn(e.File)
		_ = e.File.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
	if b, err := io.ReadAll(far); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	m1, m2 := memfd(t, "1"), memfd(t, "2")
	if err := Send("FDSTORE=1\nFDNAME=two\nFDPOLL=0", m1, m2); err != nil {
		t.Fatal(err)
	}
	if err := handle(); err != nil || names(s) != "two two" {
		t.Errorf("%q, %v", names(s), err)
	}
	if err := Send("FDSTOREREMOVE=1"); err != nil {
		t.Fatal(err)
	}
	if err := handle(); err == nil || names(s) != "two two" {
		t.Errorf("%q, %v", names(s), err)
	}
	if err := Unpark("two"); err != nil {
		t.Fatal(err)
	}
	if err := handle(); err != nil || names(s) != "" {
		t.Errorf("%q, %v", names(s), err)
	}
	for _, err := range []error{Park("a:b", m1), Unpark("")} {
		if err == nil || !strings.Contains(err.Error(), "is no name") {
			t.Error(err)
		}
	}
}

// play is what the test binary does as a server.
func play(role string) int {
	var err error
	switch role {
	case "main":
		err = Send("MAINPID=1234\nPID=1")
	case "parked":
		// Stands for the launch shim: it knows its pid.
		_ = os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
		err = takeParked()
	default:
		err = errors.New("no such role")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// takeParked takes two of the three descriptors that were passed.
func takeParked() error {
	files, err := Parked("conn")
	if err != nil || len(files) != 2 {
		return fmt.Errorf("%d files, %w", len(files), err)
	}
	for i, f := range files {
		if _, err := fmt.Fprintf(f, "%d\n", i); err != nil {
			return err
		}
		_ = f.Close()
	}
	if again, err := Parked("conn"); err != nil || len(again) != 0 {
		return fmt.Errorf("again %d files, %w", len(again), err)
	}
	if got := os.Getenv("LISTEN_FDNAMES"); got != "taken:web:taken" {
		return fmt.Errorf("names are %q", got)
	}
	for fd := 3; fd < 6; fd++ {
		path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || (path == os.DevNull) == (fd == 4) {
			return fmt.Errorf("descriptor %d is %q, %w", fd, path, err)
		}
	}
	return nil
}

func TestParked(t *testing.T) {
	r, w := pipe(t)
	run := func(names string, count int) (string, error) {
		ctx, cancel := context.WithCancel(patient(t))
		defer cancel()
		c := exec.CommandContext(ctx, os.Args[0])
		c.Env = append(os.Environ(), roleVariable+"=parked", "LISTEN_FDS="+fmt.Sprint(count), "LISTEN_FDNAMES="+names, "GORACE=atexit_sleep_ms=0")
		c.ExtraFiles = []*os.File{w, r, w}
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := run("conn:web:conn", 3); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := run("conn:conn", 3); err == nil || !strings.Contains(out, "does not go with") {
		t.Errorf("two names for three: %v: %s", err, out)
	}
	_ = w.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "0\n1\n" {
		t.Errorf("%q, %v", b, err)
	}
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("LISTEN_FDNAMES", "conn")
	if files, err := Parked("conn"); len(files) != 0 || err != nil {
		t.Errorf("what is another's was taken: %d, %v", len(files), err)
	}
}
