package shmbridge

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// guestPrograms returns the guests that can be made here: Go, and C and C++ where there are compilers.
func guestPrograms(t *testing.T) map[string]guestProgram {
	all := map[string]guestProgram{"go": goGuest}
	for _, c := range [][]string{{"gcc", "-std=c99"}, {"g++", "-x", "c++", "-std=c++11"}} {
		compiler, err := exec.LookPath(c[0])
		if err != nil {
			t.Logf("no %s", c[0])
			continue
		}
		program := compile(t, "testdata/guest.c", compiler, c[1:]...)
		all[c[0]] = func(t *testing.T, s *Segment, generation int) *process {
			t.Helper()
			cmd := exec.Command(program)
			cmd.Env = append(os.Environ(), environ(t, s, generation)...)
			return start(t, cmd, s.Files()...)
		}
	}
	return all
}

func compile(t *testing.T, source, compiler string, flags ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	flags = append(flags, "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I.", "-o", program, source)
	if out, err := exec.Command(compiler, flags...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", compiler, flags, err, out)
	}
	return program
}

// The same behaviour of every guest on every kind of segment.
func TestGuests(t *testing.T) {
	programs := guestPrograms(t)
	for name, guest := range programs {
		for _, kind := range kinds() {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				s := open(t, testSpec(t, kind, testSize), Config{})
				testGenerations(t, s, guest)
				must(t, s.Remove())
			})
		}
	}
}

func testGenerations(t *testing.T, s *Segment, guest guestProgram) {
	must(t, s.Lease(1, 0))
	first := guest(t, s, 1)
	must(t, s.Lease(1, first.cmd.Process.Pid))
	first.expect("attached fresh")
	first.ask("take 4", "ok")
	first.ask("add 5", "5")
	first.ask("save 77", "ok")
	first.ask("resume", "ok")
	first.ask("add 5", "10")
	now, err := s.State()
	must(t, err)
	if now.Pid != first.cmd.Process.Pid || !now.Managed || now.Schema != 4 || now.Saves != 1 || now.Checksum != 77 || now.SavedAt.IsZero() {
		t.Fatalf("%+v", now)
	}
	mustBe(t, s.Accepts([]uint64{5}), ErrSchema)
	must(t, s.Accepts([]uint64{5, 4}))
	m, err := s.MappedBy()
	if err != nil || !slices.Equal(m.Pids, []int{first.cmd.Process.Pid}) || m.Hidden != 0 {
		t.Fatal(m, err)
	}
	first.kill() // in the middle of it
	if state, err := s.Ended(1, ExitCrash); err != nil || state != Unsaved {
		t.Fatal(state, err)
	}

	must(t, s.Lease(2, 0))
	second := guest(t, s, 2)
	second.expect("attached unsaved")
	second.ask("take 0", "ok")
	second.ask("add 1", "11")

	third := guest(t, s, 3) // overlaps
	third.expect("attached unsaved")
	third.ask("take 0", "busy")
	second.ask("valid", "ok")
	second.ask("save 0", "ok")
	third.ask("wait 6", "ok") // saved: nobody writes
	second.ask("valid", "void")
	second.ask("resume", "void")
	second.ask("save 1", "void")
	second.ask("release", "void")
	second.ask("take 9", "void")
	second.quit()
	third.ask("add 1", "12")
	now, err = s.State()
	must(t, err)
	if now.Generation != 3 || now.State != Live || now.Found != Saved || now.Schema != 6 || now.Checksum != 0 {
		t.Fatalf("%+v", now)
	}
	must(t, s.Lease(4, 0)) // by the upgrader's word
	third.ask("save 1", "void")
	third.quit()
	fourth := guest(t, s, 4)
	fourth.expect("attached unsaved")
	fourth.ask("take 0", "ok")
	fourth.ask("save 0", "ok")
	fourth.ask("release", "ok")
	fourth.ask("save 0", "void")
	fourth.quit()
	if state, err := s.Ended(4, ExitClean); err != nil || state != Saved {
		t.Fatal(state, err)
	}
	if counter(t, s) != 12 {
		t.Fatal(counter(t, s))
	}

	g, err := s.words.begin(0, restored{number: 1}) // while a restore is not finished
	must(t, err)
	fifth := guest(t, s, 9)
	fifth.expect("attached unsaved")
	fifth.ask("take 0", "restoring")
	fifth.quit()
	must(t, s.words.finish(g, restored{number: 1, state: Saved}))
}

// The upgrader is killed, the machine and the guest go on.
func TestUpgraderKilled(t *testing.T) {
	for _, kind := range kinds()[1:] {
		t.Run(kind.String(), func(t *testing.T) {
			spec := testSpec(t, kind, testSize)
			p := role(t, "upgrader", nil, []string{spec.String()})
			p.expect("holds true")
			_, err := Open(spec, Config{})
			mustBe(t, err, ErrLocked)
			p.kill()
			s := open(t, spec, Config{})
			stateIs(t, s, 0, Unsaved) // its generation is gone, too
			must(t, s.Lease(1, 0))
			must(t, s.Remove())
		})
	}
}

func TestAttachRefuses(t *testing.T) {
	s := open(t, testSpec(t, Memfd, testSize), Config{})
	must(t, s.Lease(1, 0))
	numbers := []int{int(s.Files()[0].Fd()), int(s.Files()[1].Fd())}
	env, err := s.Environ(numbers...)
	must(t, err)
	attach := func(change ...string) error {
		vars := map[string]string{EnvGeneration: "1"}
		for _, line := range append(env, change...) {
			key, value, _ := strings.Cut(line, "=")
			vars[key] = value
		}
		b, err := AttachTo(func(key string) string { return vars[key] })
		if err == nil {
			must(t, b.Close())
		}
		return err
	}
	must(t, attach())
	for change, want := range map[string]error{
		EnvBridge + "=": ErrNotShared, EnvBridge + "=x": ErrSpec, EnvBridge + "=-1": ErrSpec, EnvSize + "=": ErrSpec, EnvSize + "=1": ErrSize,
		EnvSize + "=99999999": ErrSize, EnvState + "=live": ErrSpec, EnvGeneration + "=": ErrSpec, EnvGeneration + "=0": ErrSpec,
		EnvFd + "=": ErrSpec, EnvFd + "=x": ErrSpec, EnvPath + "=sysv:0x1,id=x": nil, EnvBridge + "=" + env[0][len(EnvFd)+1:]: ErrPage,
	} {
		if err := attach(change); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", change, err, want)
		}
	}
	if err := attach(EnvFd+"=", EnvPath+"=sysv:0x1,id=x"); !errors.Is(err, ErrSpec) {
		t.Error(err)
	}
	if _, err := s.Environ(1); err == nil {
		t.Error("one number for two descriptors")
	}
	for _, generation := range []int{0, -1, 1 << 32} {
		if err := s.Lease(generation, 0); err == nil {
			t.Errorf("generation %d got a lease", generation)
		}
	}
}

// The ten lines of the document are compiled, run twice on one segment, and found to declare their schema.
func TestTenLines(t *testing.T) {
	_, code, _ := strings.Cut(readDoc(t, "bridge.md"), "```c\n")
	code, _, _ = strings.Cut(code, "```")
	source := filepath.Join(t.TempDir(), "ten.c")
	must(t, os.WriteFile(source, []byte(code), 0o600))
	for _, c := range [][]string{{"gcc", "-std=c99"}, {"g++", "-x", "c++", "-std=c++11"}} {
		t.Run(c[0], func(t *testing.T) {
			compiler, err := exec.LookPath(c[0])
			if err != nil {
				t.Skipf("needs %s", c[0])
			}
			testTenLines(t, compile(t, source, compiler, c[1:]...))
		})
	}
}

func testTenLines(t *testing.T, program string) {
	f, err := os.Open(program)
	must(t, err)
	defer f.Close()
	if schemas, err := Schemas(f); err != nil || !slices.Equal(schemas, []uint64{1}) {
		t.Fatal(schemas, err)
	}
	s := open(t, testSpec(t, Memfd, testSize), Config{})
	for generation := range 2 {
		must(t, s.Lease(generation+1, 0))
		cmd := exec.Command(program)
		cmd.Env = environ(t, s, generation+1)
		cmd.ExtraFiles = s.Files()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatal(err, out)
		}
		stateIs(t, s, uint32(generation+1), Saved)
		if _, err := s.Ended(generation+1, ExitClean); err != nil {
			t.Fatal(err)
		}
	}
	if counter(t, s) != 2 {
		t.Fatal(counter(t, s))
	}
}
