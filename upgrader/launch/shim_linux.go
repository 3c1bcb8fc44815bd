package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Shim is a fork of this process that becomes the command of its order when it is told to.
type Shim struct {
	ctx   context.Context
	stop  func() bool // ends the watch over ctx
	conn  *os.File
	child *Child
	order Order
	plan  *plan
	once  sync.Once // Exec or Discard, whichever is first
}

// New forks a shim for the order. ctx covers the time until Exec has returned: when it ends before that, the shim is
// killed.
func New(ctx context.Context, o Order) (*Shim, error) { return newShim(ctx, o, sharing) }

func newShim(ctx context.Context, o Order, shares bool) (*Shim, error) {
	if err := ctx.Err(); err != nil {
		return nil, &ExecError{Step: StepReceive, Path: o.Path, Err: context.Cause(ctx)}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("launch: fork: %w", os.NewSyscallError("socketpair", err))
	}
	ours, theirs := pair[0], pair[1]
	p, err := lay(o, theirs)
	p.shares = shares
	var child *Child
	if err == nil {
		if child, err = startChild(p, ours); err != nil {
			err = fmt.Errorf("launch: fork: %w", err)
		}
	}
	p.close()
	if err != nil {
		_ = unix.Close(ours)
		return nil, err
	}
	_ = unix.SetNonblock(ours, true) // it cannot fail; our end only: each has its own description
	s := &Shim{ctx: ctx, conn: os.NewFile(uintptr(ours), "shim"), child: child, order: o, plan: p}
	s.stop = context.AfterFunc(ctx, func() {
		_ = child.Signal(syscall.SIGKILL) // ended already is as good
	})
	return s, nil
}

// forked forks on this thread and returns when the shim holds nothing of ours but what its plan names: until then a
// descriptor that we close stays open.
func forked(p *plan, ours int) (pid int, pidfd int32, err error) {
	before, err := block()
	if err != nil {
		return 0, -1, err
	}
	defer unblock(before)
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	pidfd = -1
	pid, errno := fork(p, &pidfd)
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, -1, os.NewSyscallError("clone", errno)
	}
	_ = unix.Close(p.theirs) // else the end of the shim were not the end of the stream
	p.theirs = -1
	var frame [1]byte
	_ = retry(func() error { _, err := unix.Read(ours, frame[:]); return err }) // its death is found out later
	return pid, pidfd, nil
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
func (s *Shim) Exec(f Filter) (*Child, error) {
	child, err := (*Child)(nil), errors.New("launch: shim used already")
	s.once.Do(func() { child, err = s.exec(f) })
	return child, err
}

func (s *Shim) exec(f Filter) (*Child, error) {
	if len(f.Program) > len(s.plan.instructions) {
		s.abandon()
		return nil, &ExecError{Step: StepFilter, Err: fmt.Errorf("%d instructions: %w", len(f.Program), unix.EINVAL)}
	}
	sendErr := s.release(f)
	reply, readErr := answer{notify: -1}, error(nil)
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
	s.abandon()
	status, _ := s.child.Wait()
	switch {
	case !alive:
		return nil, &ExecError{Step: StepReceive, Path: s.order.Path, Err: context.Cause(s.ctx)}
	case reply.failure != nil && readErr == nil:
		return nil, s.execError(*reply.failure)
	}
	err := errors.Join(sendErr, readErr)
	if err == nil || reply.failure == nil && readErr == nil {
		err = fmt.Errorf("%w (%v)", ErrShimDied, status)
	}
	return nil, &ExecError{Step: StepReceive, Path: s.order.Path, Err: err}
}

// release sends what only the parent of a fork knows.
func (s *Shim) release(f Filter) error {
	word := goMessage{flags: uint32(f.Flags), instructions: uint32(len(f.Program))}
	if len(s.plan.pidfds) > 0 {
		if inode, ok := pidfdInode(s.child.pidfd); ok {
			word.inode, word.unique = inode, 1
		}
	}
	message := unsafe.Slice((*byte)(unsafe.Pointer(&word)), unsafe.Sizeof(word)) // for this machine, which shares its layout
	for _, i := range f.Program {
		message = append(message, unsafe.Slice((*byte)(unsafe.Pointer(&i)), unsafe.Sizeof(i))...)
	}
	_, err := s.conn.Write(message)
	return err
}

// execError is what the caller of Exec gets.
func (s *Shim) execError(f failure) *ExecError {
	errno := syscall.Errno(f.errno)
	e := &ExecError{Step: steps[f.step], Path: s.plan.about(f.step, s.order), Err: errno}
	if f.step == atExec && errno == unix.ENOENT && s.order.Held == nil {
		path := s.order.Path
		if !strings.HasPrefix(path, "/") && s.order.Dir != "" {
			path = s.order.Dir + "/" + path
		}
		if _, err := os.Stat(path); err == nil { // execve(2) says the same of a missing interpreter
			e.Err = fmt.Errorf("its interpreter is missing: %w", errno)
		}
	}
	return e
}

// answer is what the shim said before its end of the stream closed.
type answer struct {
	execing bool     // all was set: what came after it is the exec
	failure *failure // nil: none was reported
	notify  int      // the listener's descriptor, -1 without one; the caller owns it
}

// readAnswer reads up to the end of the stream.
func readAnswer(conn *os.File) (a answer, err error) {
	a.notify = -1
	raw, err := conn.SyscallConn()
	if err != nil {
		return a, err
	}
	var said []byte
	data, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	for {
		var n, oobn int
		var recvErr error
		err := raw.Read(func(fd uintptr) bool {
			recvErr = retry(func() (err error) {
				n, oobn, _, _, err = unix.Recvmsg(int(fd), data, oob, unix.MSG_CMSG_CLOEXEC)
				return err
			})
			return recvErr != unix.EAGAIN
		})
		if err == nil && recvErr != nil && recvErr != unix.ECONNRESET { // reset: it died with our word unread
			err = os.NewSyscallError("recvmsg", recvErr)
		}
		if err != nil {
			return a, err
		}
		if fds, _ := parseRights(oob[:max(oobn, 0)]); len(fds) > 0 { // at most one has room
			a.notify = fds[0]
		}
		if n <= 0 {
			break
		}
		said = append(said, data[:n]...)
	}
	for i, frame := range said {
		switch frame {
		case frameClosed, frameNotify:
		case frameGo:
			a.execing = true
		case frameError:
			rest := said[i+1:]
			if len(rest) != int(unsafe.Sizeof(*a.failure)) {
				return a, io.ErrUnexpectedEOF
			}
			a.failure = (*failure)(unsafe.Pointer(&rest[0]))
			if int(a.failure.step) >= len(steps) {
				return a, unix.EPROTO
			}
			return a, nil
		default:
			return a, fmt.Errorf("frame %q from the shim: %w", frame, unix.EPROTO)
		}
	}
	return a, nil
}

func parseRights(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// retry calls f again for as long as a signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// pidfdInode is the inode number of a process's pidfd: unique for as long as the system runs, since Linux 6.9
// (pidfs). False where pidfds share one inode, or do not exist (nil).
func pidfdInode(pidfd *os.File) (inode uint64, unique bool) {
	if pidfd == nil {
		return 0, false
	}
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(p uintptr) {
		var fs unix.Statfs_t
		var st unix.Stat_t
		unique = unix.Fstatfs(int(p), &fs) == nil && int64(fs.Type) == unix.PID_FS_MAGIC && unix.Fstat(int(p), &st) == nil
		inode = st.Ino
	})
	return inode, err == nil && unique && unsafe.Sizeof(uintptr(0)) == 8 // a 32-bit kernel reuses them
}
