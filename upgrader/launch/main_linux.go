package launch

import (
	"errors"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	codeIdle   = 0   // the parent went away without an order
	codeFailed = 111 // the order could not be carried out; the parent was told
)

// Main is the first call of main(): in a shim it never returns, elsewhere it returns at once.
func Main() {
	if len(os.Args) == 0 || os.Args[0] != shimName {
		return
	}
	runtime.LockOSThread()     // descriptors, filter and death signal are this thread's
	debug.SetGCPercent(-1)     // no new threads from here to the exec
	unix.Exit(obey(controlFd)) // past the runtime's exit hooks, which may open files
}

// task is an order inside the shim.
type task struct {
	wireOrder
	control  int
	fds      []int
	held     int
	terminal int
}

// obey waits for the order and becomes the command. It returns an exit code when it did not.
func obey(control int) int {
	inherited := []int{}
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT} { // of all others the runtime has hidden the state
		if ignored(sig) {
			inherited = append(inherited, int(sig))
		}
	}
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM} {
		_ = setIgnored(sig, true) // what the terminal sends to the whole group, the parent decides about
	}
	order, fds, err := readOrder(control)
	t := &task{wireOrder: order, control: control, fds: fds, held: -1, terminal: -1}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return codeIdle
	case err != nil:
		return t.fail(StepReceive, "", err)
	}
	if t.Ignore == nil {
		t.Ignore = inherited
	}
	rest := len(t.Numbers)
	if t.Held {
		t.held = rest
		rest++
	}
	if t.Terminal {
		t.terminal = rest
		rest++
	}
	if len(fds) != rest {
		return t.fail(StepReceive, "", unix.EPROTO)
	}
	for _, step := range []func(*task) (string, string, error){
		(*task).setUmask, (*task).setGroup, (*task).setTerminal, (*task).setCgroup, (*task).setVariables,
		(*task).setDescriptors, (*task).setFilter, (*task).setUser, (*task).setDir, (*task).setSignals, (*task).setDeathSignal,
	} {
		if name, path, err := step(t); err != nil {
			return t.fail(name, path, err)
		}
	}
	return t.fail(StepExec, t.Path, t.exec())
}

// fail tells the parent which step failed and why.
func (t *task) fail(step, path string, err error) int {
	w := wireError{Step: step, Path: path, Text: err.Error()}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		w.Errno = int(errno)
	}
	t.say(append([]byte{frameError}, encode(w.walk)...), nil)
	return codeFailed
}

func (t *task) say(data, oob []byte) {
	_ = retry(func() error { // the parent may be gone: then nobody wants to know
		return unix.Sendmsg(t.control, data, oob, nil, unix.MSG_NOSIGNAL)
	})
}

func (t *task) setUmask() (string, string, error) {
	if t.Umask != nil {
		unix.Umask(*t.Umask)
	}
	return StepUmask, "", nil
}

func (t *task) setGroup() (string, string, error) {
	if !t.OwnGroup {
		return StepGroup, "", nil
	}
	return StepGroup, "", unix.Setpgid(0, 0)
}

// setTerminal gives our group the foreground. We are in the background at this moment, so that the terminal driver
// would stop us for it, were TTOU not blocked.
func (t *task) setTerminal() (string, string, error) {
	if t.terminal < 0 {
		return StepTerminal, "", nil
	}
	if err := blockSignal(unix.SIGTTOU); err != nil {
		return StepTerminal, "", err
	}
	return StepTerminal, "", unix.IoctlSetPointerInt(t.fds[t.terminal], unix.TIOCSPGRP, unix.Getpgrp())
}

// setCgroup moves this process: "0" is the writer itself (cgroups(7)).
func (t *task) setCgroup() (string, string, error) {
	if len(t.Cgroup) == 0 {
		return StepCgroup, "", nil
	}
	path := t.Cgroup + "/cgroup.procs"
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return StepCgroup, path, err
	}
	defer unix.Close(fd)
	return StepCgroup, path, retry(func() error { _, err := unix.Write(fd, []byte("0")); return err })
}

func (t *task) setVariables() (string, string, error) {
	pid := os.Getpid()
	for _, name := range t.PidVariables {
		t.Env = append(without(t.Env, name), name+"="+strconv.Itoa(pid))
	}
	if len(t.PidfdVariables) == 0 {
		return StepReceive, "", nil
	}
	inode, unique := pidfdInode(pid)
	for _, name := range t.PidfdVariables {
		t.Env = without(t.Env, name)
		if unique {
			t.Env = append(t.Env, name+"="+strconv.FormatUint(inode, 10))
		}
	}
	return StepReceive, "", nil
}

func without(env []string, name string) []string {
	kept := env[:0]
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			kept = append(kept, v)
		}
	}
	return kept
}

func (t *task) setDescriptors() (string, string, error) {
	control, rest, err := place(t.control, t.fds, t.Numbers)
	t.control = control
	if err == nil && t.Held {
		t.held = rest[0]
	}
	return StepDescriptors, "", err
}

// setFilter runs before the user changes: with CAP_SYS_ADMIN there is no need for no_new_privs. What comes after it
// are none of the calls that a filter is made for.
func (t *task) setFilter() (string, string, error) {
	if len(t.Filter) == 0 {
		return StepFilter, "", nil
	}
	listener, err := installFilter(t.Filter, t.FilterFlags)
	if err != nil {
		return StepFilter, "", err
	}
	t.say([]byte{frameNotify}, unix.UnixRights(listener))
	return StepFilter, "", unix.Close(listener)
}

func (t *task) setUser() (string, string, error) {
	if t.Uid == nil && t.Gid == nil {
		return StepSetuid, "", nil
	}
	groups := make([]int, len(t.Groups))
	for i, g := range t.Groups {
		groups[i] = int(g)
	}
	// Setting the same empty list needs a privilege too: an unprivileged "change" to oneself must not fail for it.
	if have, err := unix.Getgroups(); err != nil || len(have) > 0 || len(groups) > 0 {
		if err := unix.Setgroups(groups); err != nil {
			return StepSetgroups, "", err
		}
	}
	if t.Gid != nil {
		if err := unix.Setresgid(int(*t.Gid), int(*t.Gid), int(*t.Gid)); err != nil {
			return StepSetgid, strconv.FormatUint(uint64(*t.Gid), 10), err
		}
	}
	if t.Uid != nil {
		if err := unix.Setresuid(int(*t.Uid), int(*t.Uid), int(*t.Uid)); err != nil {
			return StepSetuid, strconv.FormatUint(uint64(*t.Uid), 10), err
		}
	}
	return StepSetuid, "", nil
}

func (t *task) setDir() (string, string, error) {
	if len(t.Dir) == 0 {
		return StepChdir, "", nil
	}
	return StepChdir, t.Dir, unix.Chdir(t.Dir)
}

func (t *task) setSignals() (string, string, error) { return StepSignals, "", resetSignals(t.Ignore) }

// setDeathSignal comes after the change of user, which clears it (prctl(2)). A parent that died before it was set
// is found by asking who our parent is.
func (t *task) setDeathSignal() (string, string, error) {
	if !t.DieWithParent {
		return StepDeathSignal, "", nil
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return StepDeathSignal, "", err
	}
	if unix.Getppid() != t.Parent {
		return StepDeathSignal, "", unix.ESRCH
	}
	return StepDeathSignal, "", nil
}

// exec returns only when it failed.
//
// The runtime raised the soft limit of open files when it started; syscall.Exec puts the original one back, even
// when it fails, and nothing else can tell what it was.
func (t *task) exec() error {
	t.say([]byte{frameGo}, nil)
	if t.held < 0 {
		return syscall.Exec(t.Path, t.Args, t.Env)
	}
	_ = syscall.Exec("", nil, nil) // ENOENT by design: it is called for the limit
	argv, err := syscall.SlicePtrFromStrings(t.Args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(t.Env)
	if err != nil {
		return err
	}
	empty, err := syscall.BytePtrFromString("")
	if err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(t.held), uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	if errno == unix.ENOSYS { // a sandbox that does not know it
		return syscall.Exec("/proc/thread-self/fd/"+strconv.Itoa(t.held), t.Args, t.Env)
	}
	return errno
}
