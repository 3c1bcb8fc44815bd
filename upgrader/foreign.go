package upgrader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/process"
)

// Foreign is a server that somebody else started, as it runs.
type Foreign struct {
	Main    process.Identity
	Exe     process.Exe
	Args    []string // as they are now: some servers write something else there
	Environ []string
	Dir     string
	User    *User // nil: as we do
	Parent  int   // pid, 0: not known
}

// LookAt tells how the process runs, as far as its successors have to run as
// it does. An error that wraps ErrUsage: it is nothing to adopt.
func LookAt(pid int) (Foreign, error) {
	var f Foreign
	var err error
	if f.Main, err = process.Of(pid); errors.Is(err, process.ErrGone) {
		return f, usage("there is no process %d", pid)
	}
	if err != nil {
		return f, err
	}
	if pid == os.Getpid() || pid == 1 {
		return f, usage("process %d is none to adopt", pid)
	}
	base := "/proc/" + strconv.Itoa(pid)
	read := func(name string) (text []byte) {
		if err == nil {
			text, err = os.ReadFile(base + "/" + name)
		}
		return text
	}
	args, environ, status := read("cmdline"), read("environ"), read("status")
	if err == nil {
		f.Dir, err = os.Readlink(base + "/cwd")
	}
	if err == nil {
		f.Exe, err = f.Main.Executable()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH), errors.Is(err, process.ErrGone):
		return f, usage("process %d has ended", pid)
	case errors.Is(err, fs.ErrPermission):
		return f, notPermitted(pid, err)
	case err != nil:
		return f, fmt.Errorf("upgrader: look at process %d: %w", pid, err)
	}
	f.Args, f.Environ = fields(args), fields(environ)
	f.User, f.Parent = userOf(string(status)), parentOf(string(status))
	if slices.ContainsFunc(f.Environ, func(v string) bool { return strings.HasPrefix(v, "UPGRADER_MARK=") }) {
		return f, usage("process %d is the server of an upgrader: one with the same state dir finds it", pid)
	}
	return f, nil
}

// fields splits what /proc has of strings.
func fields(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// line gives the numbers behind a key of /proc/PID/status.
func line(status, key string) []uint32 {
	_, rest, _ := strings.Cut("\n"+status, "\n"+key+":")
	rest, _, _ = strings.Cut(rest, "\n")
	var out []uint32
	for _, word := range strings.Fields(rest) {
		if n, err := strconv.ParseUint(word, 10, 32); err == nil {
			out = append(out, uint32(n))
		}
	}
	return out
}

// userOf is who a process runs as, nil if as we do.
func userOf(status string) *User {
	uid, gid := line(status, "Uid"), line(status, "Gid") // real, effective, saved, of file systems
	if len(uid) < 2 || len(gid) < 2 || int(uid[1]) == os.Geteuid() && int(gid[1]) == os.Getegid() {
		return nil
	}
	return &User{Uid: uid[1], Gid: gid[1], Groups: line(status, "Groups")}
}

func parentOf(status string) int {
	if p := line(status, "PPid"); len(p) == 1 {
		return int(p[0])
	}
	return 0
}

// notPermitted says what is lacking.
func notPermitted(pid int, err error) error {
	lacks := "it needs to be the same user's, and dumpable, or CAP_SYS_PTRACE"
	if scope, readErr := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); readErr == nil && strings.TrimSpace(string(scope)) != "0" {
		lacks += "; kernel.yama.ptrace_scope is " + strings.TrimSpace(string(scope)) + ", which asks for CAP_SYS_PTRACE in any case"
	}
	return fmt.Errorf("upgrader: the sockets of process %d may not be taken: %w: %s", pid, err, lacks)
}

// adoptForeign makes the first generation of a server that somebody else
// started, with the sockets that it serves on. It goes on as before; the first
// swap goes to a generation of ours.
func (s *Service) adoptForeign(f Foreign) error {
	members, err := process.NewMembers(f.Main, "").List()
	if err != nil {
		return err
	}
	var pidfds []*os.File
	for _, id := range members {
		if fd, err := id.Pidfd(); err == nil {
			pidfds = append(pidfds, fd)
			defer fd.Close()
		}
	}
	s.last++
	if err := s.set.Take(s.last, pidfds...); err != nil {
		_ = s.set.Detach() // its sockets go on as before
		switch {
		case errors.Is(err, listener.ErrNoLane):
			return usage("process %d listens nowhere", f.Main.Pid)
		case errors.Is(err, syscall.ENOSYS), errors.Is(err, errors.ErrUnsupported):
			return fmt.Errorf("upgrader: the sockets of process %d cannot be taken: pidfd_getfd(2) needs Linux 5.6: %w", f.Main.Pid, err)
		case errors.Is(err, fs.ErrPermission):
			return notPermitted(f.Main.Pid, err)
		}
		return fmt.Errorf("upgrader: adopt process %d: %w", f.Main.Pid, err)
	}
	s.move(BeginAsked)
	now := time.Now()
	g := s.adopt(rememberedGeneration{Mark: s.mark, Number: s.last, Main: f.Main, Executable: f.Exe, Started: now, Ready: now})
	r, err := recipeOf(f.Main)
	if err == nil && !slices.Equal(s.config.Command, f.Args) { // the command was given, since its arguments are not to be trusted
		_ = r.held.Close() // it was only read
		r, err = s.resolve()
	}
	s.servesOn(g, r, err)
	if f.Parent > 1 && f.Parent != os.Getpid() {
		s.note(g, fmt.Sprintf("its parent, pid %d, may start it again when it ends: see to it that it does not", f.Parent), nil)
	}
	return nil
}
