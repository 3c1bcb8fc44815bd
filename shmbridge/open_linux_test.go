package shmbridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const testSize = 64 << 10

func TestOpenCreatesAndAdopts(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			spec := testSpec(t, kind, testSize)
			s := open(t, spec, Config{})
			if !s.Created() || s.Size() != testSize || s.Spec() != spec {
				t.Fatalf("created %v, %d bytes, %v", s.Created(), s.Size(), s.Spec())
			}
			stateIs(t, s, 0, Fresh)
			must(t, s.Check())
			must(t, s.Lease(1, 7))
			env := strings.Join(environ(t, s, 1), " ")
			for _, want := range []string{"UPGRADER_SHM_SIZE=65536", "UPGRADER_SHM_STATE=fresh", "UPGRADER_BRIDGE_FD=3"} {
				if !strings.Contains(env, want) {
					t.Fatalf("%s is not in %s", want, env)
				}
			}
			b, err := s.memory()
			must(t, err)
			b[0], b[testSize-1] = 1, 2
			if state, err := s.Ended(1, ExitClean); err != nil || state != Saved {
				t.Fatal(state, err)
			}
			must(t, s.Close())
			if kind == Memfd {
				return
			}
			spec.Size = 0 // whatever it has
			s = open(t, spec, Config{})
			if s.Created() || s.Size() != testSize {
				t.Fatalf("created %v, %d bytes", s.Created(), s.Size())
			}
			stateIs(t, s, 0, Saved)
			b, err = s.memory()
			must(t, err)
			if b[0] != 1 || b[testSize-1] != 2 {
				t.Fatal("the bytes did not last")
			}
			must(t, s.Lease(1, 0)) // numbers begin anew, and are later on the page
			if now, err := s.Page().Status(); err != nil || now.Generation != 2 || now.Found != Saved {
				t.Fatal(now, err)
			}
			must(t, s.Remove())
			if _, err := Open(spec, Config{}); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("after Remove: %v", err)
			}
		})
	}
}

func TestOpenRefusesAnotherSize(t *testing.T) {
	for _, kind := range kinds()[1:] {
		t.Run(kind.String(), func(t *testing.T) {
			spec := testSpec(t, kind, testSize)
			must(t, open(t, spec, Config{}).Close())
			spec.Size *= 2
			_, err := Open(spec, Config{})
			mustBe(t, err, ErrSize)
			spec.Size = testSize
			must(t, open(t, spec, Config{}).Remove())
		})
	}
}

func TestOpenLocks(t *testing.T) {
	for _, kind := range kinds()[1:] {
		t.Run(kind.String(), func(t *testing.T) {
			spec := testSpec(t, kind, testSize)
			s := open(t, spec, Config{})
			must(t, s.Lease(1, 0))
			_, err := Open(spec, Config{})
			mustBe(t, err, ErrLocked)
			if !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) || strings.Contains(err.Error(), "\n") {
				t.Fatal(err)
			}
			role(t, "open", nil, []string{spec.String()}).expect("locked")
			guest := goGuest(t, s, 1) // holds descriptors, and no lock
			guest.expect("attached fresh")
			must(t, s.Close())
			s = open(t, spec, Config{})
			stateIs(t, s, 0, Live) // the orphan is still there
			guest.kill()
			must(t, s.Remove())
		})
	}
}

// A segment that a server made before there was an upgrader is adopted as it is.
func TestOpenAdoptsForeign(t *testing.T) {
	spec := testSpec(t, Posix, 0)
	must(t, os.WriteFile(filepath.Join("/dev/shm", spec.Name), make([]byte, 8192), 0o600))
	s := open(t, spec, Config{})
	stateIs(t, s, 0, Unsaved)
	must(t, s.Remove())

	spec = testSpec(t, SysV, 0)
	foreign := role(t, "attach", nil, []string{fmt.Sprint(spec.Key)})
	foreign.expect("attached")
	s = open(t, spec, Config{})
	if s.Created() || s.Size() != 1<<16 {
		t.Fatal(s.Created(), s.Size())
	}
	stateIs(t, s, 0, Unsaved)
	m, err := s.MappedBy()
	if err != nil || len(m.Pids) != 1 || m.Pids[0] != foreign.cmd.Process.Pid || m.Hidden != 0 {
		t.Fatal(m, err)
	}
	must(t, s.Remove()) // RMID: the server keeps it
	spec.Size = 1 << 16
	_, err = Open(spec, Config{})
	mustBe(t, err, ErrRemoved)
	foreign.kill()
	must(t, open(t, spec, Config{}).Remove())
}

func TestOpenAfterTheNameWasReused(t *testing.T) {
	spec := testSpec(t, Posix, testSize)
	s := open(t, spec, Config{})
	must(t, s.Lease(1, 0))
	path := filepath.Join("/dev/shm", spec.Name)
	must(t, os.Remove(path))
	mustBe(t, s.Check(), ErrRemoved)
	must(t, s.Close())
	s = open(t, spec, Config{}) // a new segment beside an old page
	stateIs(t, s, 0, Fresh)
	must(t, os.Truncate(path, testSize/2))
	mustBe(t, s.Check(), ErrSize)
	must(t, s.Remove())
}

func TestOpenFinishesWhatWasHalfMade(t *testing.T) {
	spec := testSpec(t, File, testSize)
	must(t, os.WriteFile(spec.Name, nil, 0o600))
	s := open(t, spec, Config{})
	if !s.Created() || s.Size() != testSize {
		t.Fatal(s.Created(), s.Size())
	}
	stateIs(t, s, 0, Fresh)
}

func TestOpenRefusesBadPages(t *testing.T) {
	spec := testSpec(t, File, testSize)
	s := open(t, spec, Config{})
	must(t, s.Close())
	side := spec.Name + sidecarSuffix
	for name, content := range map[string][]byte{"empty": {}, "short": make([]byte, 100), "foreign": make([]byte, PageSize)} {
		must(t, os.WriteFile(side, content, 0o600))
		if _, err := Open(spec, Config{}); !errors.Is(err, ErrPage) || !strings.Contains(err.Error(), side) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, os.WriteFile(side, format(testSize/2, Saved, [16]byte{}), 0o600)) // of another segment
	s = open(t, spec, Config{})
	stateIs(t, s, 0, Unsaved)
	must(t, s.Close())
	must(t, os.Remove(side))
	must(t, os.Symlink("elsewhere", side))
	if _, err := Open(spec, Config{}); err == nil {
		t.Error("a link was followed")
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	spec := testSpec(t, File, testSize)
	must(t, unix.Mkfifo(spec.Name, 0o600))
	if _, err := Open(spec, Config{}); err == nil {
		t.Error("a fifo was taken")
	}
	spec.Name = t.TempDir()
	if _, err := Open(spec, Config{}); err == nil {
		t.Error("a directory was taken")
	}
	spec.Name = filepath.Join(spec.Name, "none", "world")
	if _, err := Open(spec, Config{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	_, err := Open(Spec{Kind: Section, Name: "x", Size: 1}, Config{})
	mustBe(t, err, ErrUnsupported)
}

func TestOpenAfterReboot(t *testing.T) {
	spec := testSpec(t, File, testSize)
	s := open(t, spec, Config{})
	must(t, s.Lease(1, 0))
	b, err := s.memory()
	must(t, err)
	b[0] = 1
	s.words.store(atBoot, 12345) // as if it were of an earlier boot
	must(t, s.Close())
	s = open(t, spec, Config{})
	if !s.Rebooted() {
		t.Fatal("not noticed")
	}
	stateIs(t, s, 0, Unsaved)
	must(t, s.Close())
	if s = open(t, spec, Config{}); s.Rebooted() {
		t.Fatal("noticed twice")
	}
}

func TestOpenRefusesOtherOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	stranger := uint32(54321)
	probe := filepath.Join(t.TempDir(), "probe")
	must(t, os.WriteFile(probe, nil, 0o600))
	if err := os.Chown(probe, int(stranger), int(stranger)); err != nil {
		t.Skipf("needs uid %d: %v", stranger, err)
	}
	for _, kind := range kinds()[1:] {
		t.Run(kind.String(), func(t *testing.T) {
			spec := testSpec(t, kind, testSize)
			s := open(t, spec, Config{Uid: &stranger, Gid: &stranger})
			must(t, s.Close())
			_, err := Open(spec, Config{})
			mustBe(t, err, ErrOwner)
			must(t, open(t, spec, Config{Uid: &stranger}).Remove())

			spec = testSpec(t, kind, testSize)
			if kind == File { // a directory that everybody may enter
				dir, err := os.MkdirTemp("/dev/shm", "shmbridge-test-")
				must(t, err)
				t.Cleanup(func() { _ = os.RemoveAll(dir) })
				must(t, os.Chmod(dir, 0o755))
				spec.Name = filepath.Join(dir, "world")
			}
			s = open(t, spec, Config{})
			cmd := exec.Command("/proc/self/exe", spec.String())
			cmd.Env = append(os.Environ(), roleEnv+"=open", "GORACE=atexit_sleep_ms=0")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
			start(t, cmd).expect("permission")
			must(t, s.Remove())
		})
	}
}

func TestOpenInSmallShm(t *testing.T) {
	spec := testSpec(t, Posix, 8<<20)
	cmd := exec.Command("/proc/self/exe", spec.String())
	cmd.Env = append(os.Environ(), roleEnv+"=small", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if err := exec.Command("unshare", "--user", "--map-root-user", "--mount", "true").Run(); err != nil {
		t.Skipf("needs user and mount name spaces: %v", err)
	}
	p := start(t, cmd)
	if line := p.line(); line != "space" {
		if strings.HasPrefix(line, "failed: mount") || strings.HasPrefix(line, "failed: unshare") {
			t.Skipf("needs to mount a tmpfs: %s", line)
		}
		t.Fatal(line)
	}
	p.expect("left 0")
}

func TestOpenRefusesTooMuchMemory(t *testing.T) {
	for _, kind := range []Kind{Memfd, Posix, SysV} {
		spec := testSpec(t, kind, maxSize)
		_, err := Open(spec, Config{})
		mustBe(t, err, ErrNoSpace)
	}
}

func TestOpenWithoutSealing(t *testing.T) {
	spec := testSpec(t, Memfd, testSize)
	for name, y := range map[string]system{
		"no memfd":   {memfd: func(string, int) (int, error) { return -1, unix.ENOSYS }},
		"no flags":   {memfd: func(string, int) (int, error) { return -1, unix.EINVAL }},
		"no sealing": {seal: func(uintptr, int, int) (int, error) { return -1, unix.EINVAL }},
	} {
		if _, err := Open(spec, Config{system: y}); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := system{memfd: func(name string, flags int) (int, error) { // a kernel before 6.3
		if flags&unix.MFD_NOEXEC_SEAL != 0 {
			return -1, unix.EINVAL
		}
		return unix.MemfdCreate(name, flags)
	}}
	open(t, spec, Config{system: old})
}

func TestMemfdIsSealed(t *testing.T) {
	s := open(t, testSpec(t, Memfd, testSize), Config{})
	for _, f := range s.Files() {
		if err := f.Truncate(1); err == nil {
			t.Errorf("%s was cut off", f.Name())
		}
		if err := f.Truncate(1 << 20); err == nil {
			t.Errorf("%s was made longer", f.Name())
		}
	}
}

func TestInherited(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			spec := testSpec(t, kind, testSize)
			old := open(t, spec, Config{})
			must(t, old.Lease(3, 0))
			dup := func(f *os.File) *os.File {
				if f == nil {
					return nil
				}
				fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
				must(t, err)
				return os.NewFile(uintptr(fd), f.Name())
			}
			hold := old.Hold()
			s := open(t, spec, Config{Generation: 3, Inherited: Inherited{dup(hold.Segment), dup(hold.Bridge), dup(hold.Lock)}})
			must(t, old.Close())
			stateIs(t, s, 3, Live)
			if kind != Memfd {
				_, err := Open(spec, Config{})
				mustBe(t, err, ErrLocked) // the lock came along
			}
			must(t, s.Lease(4, 0))
			stateIs(t, s, 4, Live)

			// Out of an orphan, without the lock: nobody else maps it, so nobody writes.
			hold = s.Hold()
			_, err := Open(spec, Config{Inherited: Inherited{dup(hold.Segment), dup(hold.Bridge), nil}})
			mustBe(t, err, ErrLocked)
			file, bridge := dup(hold.Segment), dup(hold.Bridge)
			must(t, s.Close())
			s = open(t, spec, Config{Generation: 4, Inherited: Inherited{file, bridge, nil}})
			stateIs(t, s, 4, Unsaved)
			must(t, s.Remove())
		})
	}
}

func TestMemoryLimit(t *testing.T) {
	root := t.TempDir()
	membership := filepath.Join(root, "cgroup")
	must(t, os.WriteFile(membership, []byte("1:name=x:/y\n0::/a/b\n"), 0o600))
	must(t, os.MkdirAll(filepath.Join(root, "a/b"), 0o700))
	if n, where := memoryLimit(root, membership); n != 0 || where != "" {
		t.Fatal(n, where)
	}
	for path, text := range map[string]string{"a/b/memory.max": "max\n", "a/memory.max": "5000\n", "memory.max": "9000\n"} {
		must(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o600))
	}
	if n, where := memoryLimit(root, membership); n != 5000 || where != filepath.Join(root, "a/memory.max") {
		t.Fatal(n, where)
	}
}

func TestWriteZeros(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	must(t, err)
	defer f.Close()
	must(t, writeZeros(f, 3<<20+5))
	if info, err := f.Stat(); err != nil || info.Size() != 3<<20+5 {
		t.Fatal(info, err)
	}
}
