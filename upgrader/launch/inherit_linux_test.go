package launch

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDescriptorsAreExactlyThePassedOnes(t *testing.T) {
	leak, err := unix.Dup(0) // open across exec, as what a careless parent of ours leaves behind
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	dir := t.TempDir()
	for _, numbers := range [][]int{nil, {3}, {3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {12, 3, 7}, {200, 4}, {2, 5}} {
		t.Run(fmt.Sprint(numbers), func(t *testing.T) {
			o := Order{Path: tool(t, "sleep"), Args: []string{"sleep", "1000"}}
			want := []int{0, 1, 2}
			names := map[int]string{}
			for _, n := range numbers {
				f, err := os.Create(filepath.Join(dir, strconv.Itoa(n)))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				o.Files = append(o.Files, Passed{f, n})
				names[n] = f.Name()
				want = append(want, n)
			}
			slices.Sort(want)
			want = slices.Compact(want)
			child := launched(t, o)
			awaitDescriptors(t, child, want)
			for n, name := range names {
				got, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", child.Pid, n))
				if err != nil || got != name {
					t.Errorf("%d is %q, %v; want %q", n, got, err, name)
				}
			}
		})
	}
}

func TestManyDescriptors(t *testing.T) {
	const count = 3*128 + 7
	null := mustOpen(os.DevNull)
	defer null.Close()
	o := Order{Path: tool(t, "sleep"), Args: []string{"sleep", "1000"}}
	for i := range count {
		o.Files = append(o.Files, Passed{null, 3 + i})
	}
	child := launched(t, o)
	want := make([]int, count+3)
	for i := range want {
		want[i] = i
	}
	awaitDescriptors(t, child, want)
}

// TestNonblockingIsKept: the flag belongs to the description, which the command shares with us.
func TestNonblockingIsKept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	blocking, _ := pipe(t)
	nonblocking := func(f *os.File) bool {
		t.Helper()
		fd, err := duplicate(f)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		return flags&unix.O_NONBLOCK != 0
	}
	files := []*os.File{file, r, blocking}
	before := []bool{nonblocking(file), nonblocking(r), nonblocking(blocking)}
	if before[2] || !before[1] {
		t.Fatalf("before: %v", before)
	}
	launched(t, Order{Path: tool(t, "sleep"), Args: []string{"sleep", "1000"}, Files: []Passed{{file, 3}, {r, 4}, {blocking, 5}}})
	for i, f := range files {
		if got := nonblocking(f); got != before[i] {
			t.Errorf("%s: non-blocking %v, was %v", f.Name(), got, before[i])
		}
	}
}

// TestSignals: whatever this process blocks or ignores, the command finds all at their default, but for what was
// ignored on purpose by whoever started us.
func TestSignals(t *testing.T) {
	cat, sh := tool(t, "cat"), tool(t, "sh")
	bit := func(sig int) uint64 { return 1 << (sig - 1) }
	var above uint64 // whoever started the tests has them ignored, and no shell can change that
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if ignored(sig) {
			above |= bit(int(sig))
		}
	}
	for _, c := range []struct {
		name, role, trap string
		want             uint64
	}{
		{"none", "launch", "", 0},
		{"as nohup", "launch", "trap '' HUP;", bit(1)},
		{"as nohup, handled by the launcher", "launch-handling-hup", "trap '' HUP;", bit(1)},
		{"stop signals too, asked for", "launch-handling-hup", "trap '' HUP TTOU;", bit(1) | bit(22)},
		{"background of a shell", "launch", "trap '' INT;", bit(2)},
		{"others are reset", "launch", "trap '' TERM PIPE USR1 TTOU TSTP;", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := role(t, c.role, cat, "/proc/self/status")
			cmd.Args = []string{"sh", "-c", c.trap + `exec "$0" "$@"`, cmd.Path, cat, "/proc/self/status"}
			cmd.Path = sh
			fields := map[string]string{}
			for line := range strings.Lines(output(t, cmd)) {
				name, value, _ := strings.Cut(line, ":")
				fields[name] = strings.TrimSpace(value)
			}
			if got, err := strconv.ParseUint(fields["SigIgn"], 16, 64); err != nil || got != c.want|above {
				t.Errorf("ignored: %s (%v), want %x", fields["SigIgn"], err, c.want)
			}
			if got, err := strconv.ParseUint(fields["SigBlk"], 16, 64); err != nil || got != 0 {
				t.Errorf("blocked: %s (%v)", fields["SigBlk"], err)
			}
		})
	}
}

// TestSoftLimitIsRestored: the Go runtime raises the soft limit of open files for itself.
func TestSoftLimitIsRestored(t *testing.T) {
	sh := tool(t, "sh")
	cmd := role(t, "launch")
	cmd.Args = []string{"sh", "-c", `ulimit -S -n 300 && exec "$0" "$@"`, cmd.Path, sh, "-c", "ulimit -S -n; ulimit -H -n"}
	cmd.Path = sh
	hard := output(t, exec1(sh, "ulimit -H -n"))
	if got, want := output(t, cmd), "300\n"+hard; got != want {
		t.Errorf("limits %q, want %q", got, want)
	}
}

func TestHeldBinary(t *testing.T) {
	dir := t.TempDir()
	source, err := os.Open(tool(t, "sleep"))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	content, err := io.ReadAll(source)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "server")
	writeFile(t, path, string(content), 0o755)
	h := hold1(t, "", path)
	if h.Script {
		t.Skip("sleep is a script here")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	child := launched(t, Order{Path: path, Held: h.File, Args: []string{path, "1000"}, Env: []string{"A=1"}})
	exe, err := os.Stat(fmt.Sprintf("/proc/%d/exe", child.Pid))
	if err != nil || !os.SameFile(exe, h.info) {
		t.Errorf("it runs %v, %v", exe, err)
	}
	awaitDescriptors(t, child, []int{0, 1, 2})
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child.Pid))
	if want := path + "\x001000\x00"; err != nil || string(cmdline) != want {
		t.Errorf("arguments %q, %v; want %q", cmdline, err, want)
	}
}

// TestHeldSoftLimit: the other way to exec gives the limit back as well.
func TestHeldSoftLimit(t *testing.T) {
	sh := tool(t, "sh")
	cmd := role(t, "launch-held")
	cmd.Args = []string{"sh", "-c", `ulimit -S -n 300 && exec "$0" "$@"`, cmd.Path, sh, "-c", "ulimit -S -n"}
	cmd.Path = sh
	if got := output(t, cmd); got != "300" {
		t.Errorf("limit %q, want 300", got)
	}
}

func TestHeldScriptByCopy(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "script")
	writeFile(t, path, "#!"+tool(t, "sh")+" -u\necho one $1\n", 0o755)
	h := hold1(t, "", path)
	copied, err := h.CopyTo(state)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path+".new", "#!/bin/sh\necho two $1\n", 0o755)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	command, argv := h.Command(copied, []string{"script", "argument"})
	if got := printed(t, Order{Path: command, Args: argv}); got != "one argument" {
		t.Errorf("%q", got)
	}
}
