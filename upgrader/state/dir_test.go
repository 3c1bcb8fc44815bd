package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	one := Name("/srv", []string{"./server", "-p", "80"})
	if again := Name("/srv", []string{"./server", "-p", "80"}); again != one {
		t.Errorf("the same command got the names %s and %s", one, again)
	}
	seen := map[string]bool{one: true}
	for _, other := range []struct {
		cwd     string
		command []string
	}{
		{"/srv2", []string{"./server", "-p", "80"}},
		{"/srv", []string{"./server", "-p", "81"}},
		{"/srv", []string{"./server", "-p80"}},
		{"/srv", []string{"./server", "-p 80"}},
		{"/srv", []string{"./server", "-p", "80", ""}},
		{"/srv", []string{"/srv/server", "-p", "80"}},
		{"/srv./server", []string{"-p", "80"}},
	} {
		name := Name(other.cwd, other.command)
		if seen[name] {
			t.Errorf("%s %q got the name of another: %s", other.cwd, other.command, name)
		}
		seen[name] = true
	}
	for _, command := range [][]string{nil, {""}, {"/"}, {"..."}, {"-x"}, {"/opt/my server;rm"}, {"сервер"}, {strings.Repeat("long", 100)}, {"\xff\x00"}} {
		if name := Name("/", command); CheckName(name) != nil || len(name) > 51 {
			t.Errorf("%q got the name %q: %v", command, name, CheckName(name))
		}
	}
	if !strings.HasPrefix(one, "server-") || len(one) != len("server-")+10 {
		t.Errorf("the name %s does not show the command", one)
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"api", "api@1", "1.13.10.1", "a-b_c:d+e", strings.Repeat("x", 64)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", ".hidden", "-x", "a/b", "a b", "a\nb", "é", strings.Repeat("x", 65)} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q was allowed", name)
		}
	}
}

// somewhere is a place below a directory of the test's.
func somewhere(t *testing.T, uid int) place {
	t.Helper()
	root := t.TempDir()
	p := place{uid: uid, run: filepath.Join(root, "run"), own: filepath.Join(root, "own"), tmp: filepath.Join(root, "tmp")}
	for dir, mode := range map[string]fs.FileMode{p.run: 0o755, p.own: 0o700, p.tmp: 0o777 | fs.ModeSticky} {
		mkdir(t, dir, mode)
	}
	return p
}

func mkdir(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func TestBases(t *testing.T) {
	for _, c := range []struct {
		p    place
		want string
	}{
		{place{uid: 0, run: "/run", own: "/run/user/0", tmp: "/tmp"}, "/run/upgrader /tmp/upgrader-0"},
		{place{uid: 7, run: "/run", own: "/run/user/7", tmp: "/tmp"}, "/run/user/7/upgrader /tmp/upgrader-7"},
		{place{uid: 7, run: "/run", own: "", tmp: "/tmp"}, "/tmp/upgrader-7"},
		{place{uid: 7, run: "/run", own: "relative", tmp: "/tmp"}, "/tmp/upgrader-7"},
	} {
		if got := strings.Join(c.p.bases(), " "); got != c.want {
			t.Errorf("%+v: %s, want %s", c.p, got, c.want)
		}
	}
}

func TestBase(t *testing.T) {
	us := os.Geteuid()
	t.Run("preferred", func(t *testing.T) {
		p := somewhere(t, us)
		base, err := p.base()
		if err != nil || base != p.bases()[0] {
			t.Errorf("%s, %v, want %s", base, err, p.bases()[0])
		}
		if _, err := os.Lstat(base); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("looking for a base made it: %v", err)
		}
	})
	t.Run("no preferred", func(t *testing.T) {
		p := somewhere(t, us)
		p.run, p.own = p.run+"x", p.own+"x"
		if base, err := p.base(); err != nil || base != p.temporary() {
			t.Errorf("%s, %v, want %s", base, err, p.temporary())
		}
	})
	t.Run("of another user", func(t *testing.T) { // su leaves XDG_RUNTIME_DIR behind
		needRoot(t)
		p := somewhere(t, 12345)
		if err := os.Chown(p.tmp, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if base, err := p.base(); err != nil || base != p.temporary() {
			t.Errorf("%s, %v, want %s", base, err, p.temporary())
		}
	})
	t.Run("nowhere", func(t *testing.T) {
		p := somewhere(t, us)
		p.run, p.own = p.run+"x", p.own+"x"
		if err := os.Chmod(p.tmp, 0o777); err != nil {
			t.Fatal(err)
		}
		_, err := p.base()
		if !errors.Is(err, ErrShared) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "--state-dir") {
			t.Errorf("a /tmp that is not sticky: %v", err)
		}
	})
	t.Run("real", func(t *testing.T) {
		dir, err := Default("a-name")
		if err != nil {
			t.Skip("no default place here:", err)
		}
		if filepath.Base(dir) != "a-name" || !filepath.IsAbs(dir) {
			t.Error(dir)
		}
		if _, err := Default("../x"); err == nil {
			t.Error("a name left its base")
		}
	})
}

func TestOpen(t *testing.T) {
	us := os.Geteuid()
	t.Run("makes", func(t *testing.T) {
		p := somewhere(t, us)
		path := filepath.Join(p.bases()[0], "service")
		for range 2 { // the second finds it
			d, err := p.open(path)
			if err != nil {
				t.Fatal(err)
			}
			if d.Path() != path || d.Join("x") != path+"/x" {
				t.Error(d.Path(), d.Join("x"))
			}
		}
		for _, dir := range []string{path, filepath.Dir(path)} {
			if info, err := os.Lstat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
				t.Errorf("%s: %v, %v", dir, info.Mode(), err)
			}
		}
	})
	for _, c := range []struct {
		name string
		make func(t *testing.T, p place, path string)
		want error
		text string
	}{
		{"file", func(t *testing.T, p place, path string) { write(t, path, "") }, ErrNotDir, "is not a directory"},
		{"link", func(t *testing.T, p place, path string) {
			if err := os.Symlink(t.TempDir(), path); err != nil {
				t.Fatal(err)
			}
		}, ErrNotDir, "is a symbolic link"},
		{"shared", func(t *testing.T, p place, path string) { mkdir(t, path, 0o722) }, ErrShared, "writable by others (mode 0722)"},
		{"group", func(t *testing.T, p place, path string) { mkdir(t, path, 0o770) }, ErrShared, "writable by others"},
		{"readable", func(t *testing.T, p place, path string) { mkdir(t, path, 0o755) }, nil, ""},
		{"foreign", func(t *testing.T, p place, path string) {
			needRoot(t)
			mkdir(t, path, 0o700)
			if err := os.Chown(path, 12345, -1); err != nil {
				t.Fatal(err)
			}
		}, ErrOwner, "owned by uid 12345"},
	} {
		check := func(t *testing.T, p place, path string, err error) {
			t.Helper()
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.want != nil && (!strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%q does not say %q", err, c.text)
			}
		}
		t.Run(c.name, func(t *testing.T) {
			p := somewhere(t, us)
			path := filepath.Join(p.own, "service")
			c.make(t, p, path)
			_, err := p.open(path)
			check(t, p, path, err)
		})
		t.Run("base "+c.name, func(t *testing.T) {
			p := somewhere(t, us)
			base := p.bases()[0]
			c.make(t, p, base)
			_, err := p.open(filepath.Join(base, "service"))
			check(t, p, base, err)
		})
	}
	t.Run("nowhere", func(t *testing.T) {
		_, err := Open(filepath.Join(t.TempDir(), "a", "b"))
		if err == nil || !strings.Contains(err.Error(), "there is no directory") {
			t.Error(err)
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
