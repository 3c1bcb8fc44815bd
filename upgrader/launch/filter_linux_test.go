package launch

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// filterFor has one call notified and lets all others pass.
func filterFor(notified int) []Instruction {
	return []Instruction{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(notified), Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

// filtered starts the order or skips when no filter is permitted here.
func filtered(t *testing.T, o Order, program ...Instruction) *Child {
	t.Helper()
	child, err := start(t.Context(), o, program...)
	if errors.Is(err, ErrFilter) {
		t.Skip("seccomp listeners are not permitted here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if child.Notify != nil {
			_ = child.Notify.Close()
		}
		_ = child.Signal(unix.SIGKILL) // ended already is as good
		_, _ = child.Wait()
		_ = child.Close()
	})
	return child
}

func TestFilter(t *testing.T) {
	child := filtered(t, Order{Path: tool(t, "sleep"), Args: []string{"sleep", "1000"}}, filterFor(unix.SYS_BIND)...)
	if child.Notify == nil {
		t.Fatal("no listener")
	}
	if got := statusField(child.Pid, "Seccomp"); got != "2" {
		t.Errorf("seccomp mode %q", got)
	}
	privileged := hasCapability(t, unix.CAP_SYS_ADMIN)
	if got, want := statusField(child.Pid, "NoNewPrivs"), map[bool]string{true: "0", false: "1"}[privileged]; got != want {
		t.Errorf("no_new_privs %q, want %q", got, want)
	}
	awaitDescriptors(t, child, []int{0, 1, 2})
	// The listener's end is seen when no task with the filter is left.
	if err := child.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fds := []unix.PollFd{{Fd: int32(child.Notify.Fd()), Events: unix.POLLIN}}
	eventually(t, "the listener hangs up", func() bool {
		n, err := unix.Poll(fds, 100)
		return err == nil && n == 1 && fds[0].Revents&unix.POLLHUP != 0
	})
}

func TestFilterAndExecError(t *testing.T) {
	_, err := start(t.Context(), Order{Path: "/nowhere"}, filterFor(unix.SYS_BIND)...)
	if errors.Is(err, ErrFilter) {
		t.Skip("seccomp listeners are not permitted here:", err)
	}
	if !errors.Is(err, unix.ENOENT) || ExitCode(err) != CodeNotFound {
		t.Error(err)
	}
}

// TestFilterWithoutPrivilege: as an ordinary user, whom the filter costs no_new_privs.
func TestFilterWithoutPrivilege(t *testing.T) {
	needRoot(t)
	uid := uint32(65534)
	child := filtered(t, Order{Path: tool(t, "sleep"), Args: []string{"sleep", "1000"}, Uid: &uid, Gid: &uid}, filterFor(unix.SYS_BIND)...)
	if got := statusField(child.Pid, "Uid"); got != "65534\t65534\t65534\t65534" {
		t.Errorf("user %q", got)
	}
	if got := statusField(child.Pid, "NoNewPrivs"); hasCapability(t, unix.CAP_SYS_ADMIN) && got != "0" {
		t.Errorf("no_new_privs %q for a filter that was installed before the user changed", got)
	}
}

// TestOuterListener: below a launcher that has a listener, a second one is refused and told apart.
func TestOuterListener(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	child := filtered(t, Order{
		Path: self, Args: []string{self, tool(t, "true")}, Env: append(os.Environ(), roleVariable+"=filter"),
		Files: []Passed{{w, 1}},
	}, filterFor(unix.SYS_BIND)...)
	_ = w.Close()
	if got := firstLine(t, r); got != "busy: true" {
		t.Errorf("below a listener: %q", got)
	}
	if status, err := child.Wait(); err != nil || !status.Success() {
		t.Errorf("%v, %v", status, err)
	}
}

// TestOlderKernels: where close_range(2) is missing, and where a sandbox forbids unshare(2) as well.
func TestOlderKernels(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sh := tool(t, "sh")
	for name, refused := range map[string]map[uint32]unix.Errno{
		"without close_range":             {unix.SYS_CLOSE_RANGE: unix.ENOSYS},
		"without close_range and unshare": {unix.SYS_CLOSE_RANGE: unix.EPERM, unix.SYS_UNSHARE: unix.EPERM},
		"without pidfds":                  {unix.SYS_PIDFD_OPEN: unix.ENOSYS, unix.SYS_PIDFD_SEND_SIGNAL: unix.ENOSYS},
	} {
		t.Run(name, func(t *testing.T) {
			program := []Instruction{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}}
			for call, errno := range refused {
				program = append(program,
					Instruction{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jt: 0, Jf: 1},
					Instruction{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)})
			}
			program = append(program, Instruction{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
			child := filtered(t, Order{
				Path: self, Args: []string{self, sh}, Env: append(os.Environ(), roleVariable+"=pass"),
			}, program...)
			if status, err := child.Wait(); err != nil || !status.Success() {
				t.Errorf("%v, %v", status, err)
			}
		})
	}
}

func hasCapability(t *testing.T, capability uint) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
