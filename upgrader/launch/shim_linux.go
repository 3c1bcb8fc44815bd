package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Instruction is one instruction of a classic BPF program.
type Instruction = unix.SockFilter

const (
	shimName    = "upgrader-shim" // argv[0] of a shim
	controlFd   = 3               // of the shim: its end of the socket pair
	maxNumber   = 1 << 20         // of a passed descriptor
	selfProgram = "/proc/self/exe"
)

// Shim is a forked copy of this program that waits for its order.
type Shim struct {
	ctx   context.Context
	stop  func() bool // ends the watch over ctx
	conn  *os.File
	child *Child
	once  sync.Once // Exec or Discard, whichever is first
}

// New forks a shim. ctx covers the time until Exec has returned: when it ends before that, the shim is killed.
// The program must call Main first thing in main.
func New(ctx context.Context) (*Shim, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("launch: start shim: %w", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("launch: start shim: %w", os.NewSyscallError("socketpair", err))
	}
	ours, theirs := pair[0], pair[1]
	child, err := startChild(selfProgram, []string{shimName}, []uintptr{0, 1, 2, uintptr(theirs)})
	_ = unix.Close(theirs) // the shim has its own now, or there is none
	if err == nil {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(ours, true)) // our end only: each has its own description
		if err != nil {
			_ = child.Signal(syscall.SIGKILL) // ended already is as good
			_, _ = child.Wait()               // its status is of no interest
			_ = child.Close()
		}
	}
	if err != nil {
		_ = unix.Close(ours)
		return nil, fmt.Errorf("launch: start shim: %w", err)
	}
	s := &Shim{ctx: ctx, conn: os.NewFile(uintptr(ours), "shim"), child: child}
	s.stop = context.AfterFunc(ctx, func() {
		_ = child.Signal(syscall.SIGKILL) // ended already is as good
	})
	return s, nil
}

// Pid of the shim, which is going to be the command's.
func (s *Shim) Pid() int { return s.child.Pid }

// Discard ends a shim that is not needed, and waits for its end. After Exec it does nothing.
func (s *Shim) Discard() { s.once.Do(s.abandon) }

// abandon kills the shim and releases everything.
func (s *Shim) abandon() {
	s.stop()
	_ = s.child.Signal(syscall.SIGKILL) // ended already is as good
	_, _ = s.child.Wait()               // its status is of no interest
	_ = s.conn.Close()
	_ = s.child.Close()
}

// Exec has the shim become the command, and returns when it has. It consumes the shim, whatever it returns. A
// command that could not be started is an *ExecError.
func (s *Shim) Exec(o Order) (*Child, error) {
	child, err := (*Child)(nil), errors.New("launch: shim used already")
	s.once.Do(func() { child, err = s.exec(o) })
	return child, err
}

func (s *Shim) exec(o Order) (*Child, error) {
	order, fds, err := prepare(o)
	defer closeAll(fds)
	if err != nil {
		s.abandon()
		return nil, err
	}
	sendErr := sendOrder(s.conn, &order, fds)
	reply := answer{notify: -1}
	var readErr error
	if sendErr == nil || errors.Is(sendErr, unix.EPIPE) || errors.Is(sendErr, unix.ECONNRESET) {
		reply, readErr = readAnswer(s.conn) // it may have said why before it left
	}
	alive := s.stop() || s.ctx.Err() == nil
	if reply.failure == nil && reply.execing && sendErr == nil && readErr == nil && alive {
		_ = s.conn.Close() // all was read
		if reply.notify >= 0 {
			s.child.Notify = os.NewFile(uintptr(reply.notify), "seccomp-notify")
		}
		return s.child, nil
	}
	if reply.notify >= 0 {
		_ = unix.Close(reply.notify)
	}
	status, _ := s.abandonWithStatus()
	switch {
	case reply.failure != nil && readErr == nil:
		return nil, reply.failure.execError(o)
	case !alive:
		return nil, &ExecError{Step: StepReceive, Path: o.Path, Err: context.Cause(s.ctx)}
	}
	err = errors.Join(sendErr, readErr)
	if err == nil || reply.failure == nil && readErr == nil {
		err = fmt.Errorf("%w (%v)", ErrShimDied, status)
	}
	return nil, &ExecError{Step: StepReceive, Path: o.Path, Err: err}
}

func (s *Shim) abandonWithStatus() (Status, error) {
	if s.conn != nil {
		_ = s.conn.Close() // the shim sees the end, if it is still there
	}
	s.abandon()
	return s.child.Wait()
}

// prepare checks the order and duplicates its descriptors, which the caller closes even after an error.
func prepare(o Order) (order wireOrder, fds []int, err error) {
	if len(o.Args) == 0 {
		o.Args = []string{o.Path}
	}
	for _, list := range [][]string{{o.Path, o.Dir, o.Cgroup}, o.Args, o.Env, o.PidVariables, o.PidfdVariables} {
		if slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, "\x00") }) {
			return order, nil, &ExecError{Step: StepExec, Path: o.Path, Err: unix.EINVAL}
		}
	}
	order = wireOrder{
		Path: o.Path, Dir: o.Dir, Cgroup: o.Cgroup, Args: o.Args, Env: o.Env,
		Held: o.Held != nil, Terminal: o.Terminal != nil,
		PidVariables: o.PidVariables, PidfdVariables: o.PidfdVariables,
		Uid: o.Uid, Gid: o.Gid, Groups: o.Groups, Umask: o.Umask, OwnGroup: o.OwnGroup,
		Filter: o.Filter, FilterFlags: o.FilterFlags,
		DieWithParent: o.DieWithParent, Parent: os.Getpid(),
	}
	if o.Ignore != nil {
		order.Ignore = []int{}
		for _, sig := range o.Ignore {
			order.Ignore = append(order.Ignore, int(sig))
		}
	}
	files := make([]*os.File, 0, len(o.Files)+2)
	for _, p := range o.Files {
		if p.Number < 0 || p.Number > maxNumber || slices.Contains(order.Numbers, p.Number) {
			err := fmt.Errorf("number %d is not free: %w", p.Number, unix.EBADF)
			return order, nil, &ExecError{Step: StepDescriptors, Err: err}
		}
		order.Numbers, files = append(order.Numbers, p.Number), append(files, p.File)
	}
	if o.Held != nil {
		files = append(files, o.Held)
	}
	if o.Terminal != nil {
		files = append(files, o.Terminal)
	}
	for _, f := range files {
		fd, err := duplicate(f)
		if err != nil {
			return order, fds, &ExecError{Step: StepDescriptors, Path: nameOf(f), Err: err}
		}
		fds = append(fds, fd)
	}
	return order, fds, nil
}

func nameOf(f *os.File) string {
	if f == nil {
		return ""
	}
	return f.Name()
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd) // duplicates: nothing can be lost
	}
}

// execError is what the caller of Exec gets.
func (w *wireError) execError(o Order) *ExecError {
	errno := syscall.Errno(w.Errno)
	e := &ExecError{Step: w.Step, Path: w.Path, Err: errno}
	if errno == 0 {
		e.Err = errors.New(w.Text)
	}
	if w.Step == StepExec && errno == unix.ENOENT && o.Held == nil {
		path := o.Path
		if !strings.HasPrefix(path, "/") && o.Dir != "" {
			path = o.Dir + "/" + path
		}
		if _, err := os.Stat(path); err == nil { // execve(2) says the same of a missing interpreter
			e.Err = fmt.Errorf("its interpreter is missing: %w", errno)
		}
	}
	return e
}
