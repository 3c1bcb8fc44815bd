package state

import (
	"errors"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestLockNamesItsHolder(t *testing.T) {
	d := open(t)
	l, err := d.Lock("first", []string{"./server", "a b"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Lock("second", nil)
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("the second got %v", err)
	}
	start, _ := startTime(os.Getpid())
	want := Holder{Pid: os.Getpid(), Start: start, Name: "first", Command: []string{"./server", "a b"}}
	if !reflect.DeepEqual(locked.Holder, want) || locked.Dir != d.Path() {
		t.Errorf("got %+v, want %+v", locked, want)
	}
	for _, part := range []string{strconv.Itoa(os.Getpid()), `./server "a b"`, d.Path(), "--name"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %s", err, part)
		}
	}
	if first, _, _ := strings.Cut(read(t, d.Join(lockName)), "\n"); first != strconv.Itoa(os.Getpid())+" "+strconv.FormatUint(start, 10)+" first" {
		t.Errorf("the lock says %q", first)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if l, err = d.Lock("second", nil); err != nil {
		t.Fatal("after its release:", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestLockOutlivesNobody(t *testing.T) {
	d := open(t)
	write(t, d.Join(".state.json"+temporaryMark+"123"), "half")
	p := start(t, "lock", nil, d.Path())
	_, err := d.Lock("us", nil)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Holder.Pid != p.Process.Pid || locked.Holder.Name != "held" {
		t.Fatalf("while it runs: %v", err)
	}
	p.kill()
	l, err := d.Lock("us", nil)
	if err != nil {
		t.Fatal("after kill -9:", err)
	}
	defer l.Release()
	if _, err := os.Stat(d.Join(".state.json" + temporaryMark + "123")); !os.IsNotExist(err) {
		t.Error("what a killed one left was not swept:", err)
	}
	if h, err := readHolder(d.Join(lockName)); err != nil || h.Pid != os.Getpid() || h.Name != "us" || h.Command == nil || len(h.Command) != 0 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestLockIsHandedOn(t *testing.T) {
	d := open(t)
	l, err := d.Lock("us", []string{"./server", "with", "many", "arguments", "that", "make", "it", "longer", "than", "the", "next"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "inherit", []*os.File{f}, d.Path())
	f.Close()
	if h, err := readHolder(d.Join(lockName)); err != nil || h.Pid != p.Process.Pid || h.Name != "heir" || len(h.Command) != 1 {
		t.Fatalf("the heir is not named: %+v, %v", h, err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	_, err = d.Lock("third", nil)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Holder.Pid != p.Process.Pid {
		t.Fatalf("while the heir runs: %v", err)
	}
	p.quit(t)
	if l, err = d.Lock("third", nil); err != nil {
		t.Fatal("after the heir:", err)
	}
	l.Release()
}

func TestLockComesBackFromAnHeirThatFailed(t *testing.T) {
	d := open(t)
	l, err := d.Lock("us", []string{"./server"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "inherit", []*os.File{f}, d.Path())
	f.Close()
	p.kill()
	if err := l.Claim(); err != nil {
		t.Fatal(err)
	}
	_, err = d.Lock("other", nil)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Holder.Pid != os.Getpid() || locked.Holder.Name != "us" {
		t.Fatal(err)
	}
}

func TestInheritTakesOnlyTheLock(t *testing.T) {
	d := open(t)
	l, err := d.Lock("us", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	for name, path := range map[string]string{"another file": d.Join("other"), "another opening": d.Join(lockName)} {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Inherit(f, "x", nil); err == nil {
			t.Errorf("%s was taken for the lock", name)
		}
		if f.Close() == nil {
			t.Errorf("%s: it was not closed", name)
		}
	}
}

func TestOneOfManyGetsTheLock(t *testing.T) {
	d := open(t)
	write(t, d.Join(lockName), "4194304 1 stale\n[]\n")
	var mu sync.Mutex
	var got []*Lock
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			l, err := d.Lock("one", nil)
			var locked *LockedError
			if err != nil && (!errors.As(err, &locked) || locked.Holder.Pid != os.Getpid()) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, l)
			}
		})
	}
	all.Wait()
	if len(got) != 1 {
		t.Errorf("%d got it", len(got))
	}
	for _, l := range got {
		l.Release()
	}
}

func TestParseHolder(t *testing.T) {
	for text, ok := range map[string]bool{
		"1 2 a\n[\"x\"]\n": true, "1 0 a b\n": true, "1 2 a\n\n\n\n": true, "1 2 a\n[broken": true,
		"": false, "\n": false, "1\n": false, "0 1 a\n": false, "-1 1 a\n": false, "x y z\n": false, "1 x a\n": false, "1 2": false,
	} {
		if h, err := parseHolder(strings.NewReader(text)); (err == nil) != ok {
			t.Errorf("%q: %+v, %v", text, h, err)
		}
	}
	long := make([]string, 100_000)
	for i := range long {
		long[i] = "argument"
	}
	text := encodeHolder(Holder{Pid: 1, Name: "n", Command: long})
	if len(text) > holderMax {
		t.Errorf("%d bytes", len(text))
	}
	if h, err := parseHolder(strings.NewReader(string(text))); err != nil || h.Command[len(h.Command)-1] != "..." {
		t.Errorf("%v", err)
	}
	if line := commandLine(long); len(line) > 120 {
		t.Errorf("%d bytes", len(line))
	}
	if line := commandLine([]string{"a", "", "b\nc", `d"`}); line != `a "" "b\nc" "d\""` {
		t.Error(line)
	}
}

func TestStartTime(t *testing.T) {
	if start, ok := startTime(os.Getpid()); !ok || start == 0 {
		t.Error("we do not run")
	}
	for _, pid := range []int{0, -1, 1 << 30} {
		if _, ok := startTime(pid); ok {
			t.Errorf("%d runs", pid)
		}
	}
}
