package intercept

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// task is a thread that waits in a notified call, seen from outside. Whatever
// is read of it counts only if its notification is still valid afterwards:
// then its number cannot have passed to another task meanwhile.
type task struct {
	tid, tgid int
	pidfd     *os.File // nil until needed; see dup
	noDup     bool     // dup is forbidden, as in most containers
}

func openTask(tid int) (*task, error) {
	if tid <= 0 {
		return nil, errors.New("intercept: the task is not visible in this pid namespace")
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return nil, fmt.Errorf("intercept: read task: %w", err)
	}
	tgid, ok := parseTgid(status)
	if !ok {
		return nil, fmt.Errorf("intercept: no Tgid in the status of task %d", tid)
	}
	return &task{tid: tid, tgid: tgid}, nil
}

func (t *task) close() {
	if t.pidfd != nil {
		_ = t.pidfd.Close() // nothing was written
	}
}

// parseTgid finds the thread group in /proc/TID/status.
func parseTgid(status []byte) (int, bool) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("Tgid:")); ok {
			n, err := strconv.Atoi(string(bytes.TrimSpace(rest)))
			return n, err == nil && n > 0
		}
	}
	return 0, false
}

// path is a file of the task's own /proc folder: a thread with an unshared
// descriptor table has one of its own.
func (t *task) path(rest string) string { return "/proc/" + strconv.Itoa(t.tid) + "/" + rest }

// read copies n bytes of the task's memory. Containers may forbid
// process_vm_readv and still allow /proc/TID/mem: the same check of the
// kernel's, but not the same system call.
func (t *task) read(address uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	if n == 0 {
		return b, nil
	}
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(n)
	got, err := unix.ProcessVMReadv(t.tid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: n}}, 0)
	if err == nil && got == n {
		return b, nil
	}
	mem, err := os.Open(t.path("mem"))
	if err != nil {
		return nil, fmt.Errorf("intercept: read memory: %w", err)
	}
	defer mem.Close()
	if _, err := mem.ReadAt(b, int64(address)); err != nil {
		return nil, fmt.Errorf("intercept: read memory: %w", err)
	}
	return b, nil
}

// inode of the socket behind one descriptor; false: no socket.
func (t *task) inode(fd int) (uint64, bool) {
	link, err := os.Readlink(t.path("fd/" + strconv.Itoa(fd)))
	if err != nil {
		return 0, false
	}
	return parseSocketLink(link)
}

// parseSocketLink reads "socket:[12345]".
func parseSocketLink(link string) (uint64, bool) {
	s, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	if s, ok = strings.CutSuffix(s, "]"); !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// descriptors are the numbers in the task's table, in two kinds: those of the
// socket with this inode (dup(2) before bind), and epoll sets.
func (t *task) descriptors(inode uint64) (same, epolls []int, err error) {
	dir, err := os.Open(t.path("fd"))
	if err != nil {
		return nil, nil, fmt.Errorf("intercept: list descriptors: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, nil, fmt.Errorf("intercept: list descriptors: %w", err)
	}
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		link, err := os.Readlink(t.path("fd/" + name))
		if err != nil {
			continue // closed meanwhile by another thread
		}
		if link == "anon_inode:[eventpoll]" {
			epolls = append(epolls, n)
		} else if i, ok := parseSocketLink(link); ok && i == inode {
			same = append(same, n)
		}
	}
	return same, epolls, nil
}

// dup duplicates a descriptor of the task's (pidfd_getfd, Linux 5.6).
func (t *task) dup(fd int) (*os.File, error) {
	if t.noDup {
		return nil, fmt.Errorf("intercept: pidfd_getfd: %w", unix.EPERM)
	}
	if t.pidfd == nil {
		// A thread that is not a leader has a pidfd only since 6.9; before, its
		// leader's, which nearly always has the same table.
		p, err := unix.PidfdOpen(t.tid, unix.O_EXCL) // PIDFD_THREAD
		if err != nil {
			p, err = unix.PidfdOpen(t.tgid, 0)
		}
		if err != nil {
			return nil, fmt.Errorf("intercept: pidfd_open: %w", err)
		}
		t.pidfd = os.NewFile(uintptr(p), "pidfd")
	}
	got := -1
	err := control(t.pidfd, func(p int) (err error) {
		got, err = unix.PidfdGetfd(p, fd, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("intercept: pidfd_getfd: %w", err)
	}
	return os.NewFile(uintptr(got), "guest"), nil
}

// control runs f on the descriptor of file without changing its mode.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// fdinfo is what /proc/TID/fdinfo/N tells of one descriptor.
type fdinfo struct {
	flags   int // O_…, O_CLOEXEC of the descriptor included
	targets []target
}

// target is one registration in an epoll set.
type target struct {
	fd     int
	events uint32
	data   uint64
	inode  uint64 // 0: an old kernel, which does not tell
}

func (t *task) fdinfo(fd int) (fdinfo, error) {
	b, err := os.ReadFile(t.path("fdinfo/" + strconv.Itoa(fd)))
	if err != nil {
		return fdinfo{}, fmt.Errorf("intercept: read descriptor: %w", err)
	}
	return parseFdinfo(b)
}

// parseFdinfo reads lines like
//
//	flags:	02004002
//	tfd:        7 events:       19 data: ffff00000007  pos:0 ino:3c1f sdev:8
//
// events, data, ino and sdev are hexadecimal, flags octal. Lines that are not
// understood are passed over.
func parseFdinfo(b []byte) (fdinfo, error) {
	info := fdinfo{flags: -1}
	for line := range bytes.Lines(b) {
		key, rest, ok := strings.Cut(string(line), ":")
		if !ok {
			continue
		}
		switch key {
		case "flags":
			n, err := strconv.ParseUint(strings.TrimSpace(rest), 8, 31)
			if err != nil {
				return fdinfo{}, fmt.Errorf("intercept: descriptor flags: %w", err)
			}
			info.flags = int(n)
		case "tfd":
			if t, ok := parseTarget(rest); ok {
				info.targets = append(info.targets, t)
			}
		}
	}
	if info.flags < 0 {
		return fdinfo{}, errors.New("intercept: no flags in fdinfo")
	}
	return info, nil
}

// parseTarget reads what follows "tfd:": the number, then "name: value" and
// "name:value" pairs.
func parseTarget(s string) (target, bool) {
	words := strings.Fields(strings.ReplaceAll(s, ":", " "))
	if len(words) == 0 {
		return target{}, false
	}
	fd, err := strconv.ParseUint(words[0], 10, 31)
	if err != nil {
		return target{}, false
	}
	t := target{fd: int(fd)}
	seen := 0
	for i := 1; i+1 < len(words); i += 2 {
		n, err := strconv.ParseUint(words[i+1], 16, 64)
		if err != nil {
			continue
		}
		switch words[i] {
		case "events":
			t.events = uint32(n)
			seen++
		case "data":
			t.data = n
			seen++
		case "ino":
			t.inode = n
		}
	}
	return t, seen == 2
}
