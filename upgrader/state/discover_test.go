package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiscover(t *testing.T) {
	p := somewhere(t, os.Geteuid())
	if all, err := p.discover(); err != nil || len(all) != 0 {
		t.Fatalf("nowhere: %v, %v", all, err)
	}
	base := p.bases()[0]
	lock := func(base, name string) *Lock {
		t.Helper()
		d, err := p.open(filepath.Join(base, name))
		if err != nil {
			t.Fatal(err)
		}
		l, err := d.Lock(name, []string{"./" + name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Release() })
		return l
	}
	lock(base, "b")
	lock(p.temporary(), "a")
	lock(base, "gone").Release()
	child := start(t, "lock", nil, filepath.Join(base, "child"))
	killed := start(t, "lock", nil, filepath.Join(base, "killed"))
	killed.kill()
	// Who is only named, in a lock that nobody holds, does not run.
	d, err := p.open(filepath.Join(base, "named"))
	if err != nil {
		t.Fatal(err)
	}
	start, _ := startTime(os.Getpid())
	write(t, d.Join(lockName), string(encodeHolder(Holder{Pid: os.Getpid(), Start: start, Name: "named"})))
	mkdir(t, filepath.Join(base, "empty"), 0o700)
	write(t, filepath.Join(base, "file"), "")
	mkdir(t, filepath.Join(base, "shared"), 0o777)
	if err := os.Symlink(filepath.Join(base, "b"), filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}

	all, err := p.discover()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range all {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "a b held" {
		t.Errorf("found %s", got)
	}
	if r, err := find(all, "held"); err != nil || r.Pid != child.Process.Pid || filepath.Base(r.Dir) != "child" || len(r.Command) != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := find(all, "child"); err != nil || r.Name != "held" {
		t.Errorf("by its dir: %+v, %v", r, err)
	}
	if _, err := find(all, "c"); !errors.Is(err, ErrNobody) || !strings.Contains(err.Error(), "c") {
		t.Error(err)
	}
	if _, err := find(nil, ""); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	if r, err := find(all[:1], ""); err != nil || r.Name != "a" {
		t.Errorf("the only one: %+v, %v", r, err)
	}
	_, err = find(all, "")
	var several *AmbiguousError
	if !errors.As(err, &several) || len(several.Running) != 3 {
		t.Fatal(err)
	}
	for _, part := range []string{"a (pid", "./b", "held", "--name"} {
		if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	child.kill()
	await(t, "the child is gone", func() bool {
		all, err := p.discover()
		return err == nil && len(all) == 2
	})
}

func TestDiscoverHere(t *testing.T) {
	if _, err := Discover(); err != nil {
		t.Error(err)
	}
}
