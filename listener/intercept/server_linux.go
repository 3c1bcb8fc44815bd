package intercept

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const defaultConcurrency = 32

// Serve answers on notify until no task with the filter is left (nil) or ctx
// is done (its error). It joins everything that it started: every call that
// it took is answered. notify is lent: while somebody holds it, calls wait for
// the next Serve; once nobody does, they fail with ENOSYS.
func Serve(ctx context.Context, notify *os.File, h Handler) error {
	return Server{Handler: h}.Serve(ctx, notify)
}

// Serve is as the function [Serve].
func (s Server) Serve(ctx context.Context, notify *os.File) error {
	r, err := newRun(s, notify)
	if err != nil {
		return err
	}
	defer r.close()
	// A deadline in the past wakes the wait for notifications.
	stop := context.AfterFunc(ctx, func() { _ = r.notify.SetReadDeadline(time.Unix(1, 0)) }) // it can be set: newRun did
	defer stop()
	err = r.loop(ctx)
	r.tasks.Wait()
	return err
}

// run is one Serve.
type run struct {
	server  Server
	notify  *os.File // our duplicate, known to the runtime's poller
	sizes   notifSizes
	cookie  uint64 // of our network namespace, 0: not known
	learned learned

	slots chan struct{} // one per call that is being handled
	tasks sync.WaitGroup
	busy  map[int]chan struct{} // by thread: closed when its call is done; the loop's alone
	ports locks

	mu      sync.Mutex
	unheard map[uint64]string // lanes whose guest was injected, but did not hear of it; see bind
	sets    []*os.File        // epoll sets of guests, oldest first; see keep
}

func newRun(s Server, notify *os.File) (*run, error) {
	if s.Observe == nil {
		s.Observe = func(Event) {}
	}
	if s.Concurrency <= 0 {
		s.Concurrency = defaultConcurrency
	}
	sizes, err := askSizes()
	if err != nil {
		return nil, err
	}
	dup := -1
	err = control(notify, func(fd int) (err error) {
		if dup, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
		// For os.NewFile to hand it to the poller; the ioctls do not look at it.
		return unix.SetNonblock(dup, true)
	})
	if err != nil {
		if dup >= 0 {
			_ = unix.Close(dup)
		}
		return nil, fmt.Errorf("intercept: duplicate notify descriptor: %w", err)
	}
	r := &run{
		server:  s,
		notify:  os.NewFile(uintptr(dup), "seccomp notify"),
		sizes:   sizes,
		cookie:  ownCookie(),
		slots:   make(chan struct{}, s.Concurrency),
		busy:    make(map[int]chan struct{}),
		unheard: make(map[uint64]string),
	}
	if err := r.notify.SetReadDeadline(time.Time{}); err != nil {
		r.close()
		return nil, fmt.Errorf("intercept: poll notify descriptor: %w", err)
	}
	return r, nil
}

func (r *run) close() {
	_ = r.notify.Close() // nothing was written
	for _, f := range r.sets {
		_ = f.Close() // as above
	}
}

// errHangup: no task with the filter is left.
var errHangup = errors.New("intercept: no task left")

// loop takes notifications and starts their handling.
func (r *run) loop(ctx context.Context) error {
	buf := buffer(r.sizes.notif)
	for {
		// A slot first: what cannot be handled yet waits in the kernel.
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		n, err := r.next(buf)
		switch {
		case err == nil:
			r.start(n)
			continue
		case errors.Is(err, errHangup):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOENT): // the task went before we got to it
			<-r.slots
		default:
			return fmt.Errorf("intercept: receive notification: %w", err)
		}
	}
}

// next waits for a notification. It does not block in the ioctl: the wait is
// the runtime poller's, which costs no thread and which ctx can end.
func (r *run) next(buf []byte) (notification, error) {
	raw, err := r.notify.SyscallConn()
	if err != nil {
		return notification{}, err
	}
	var n notification
	var inner error
	err = raw.Read(func(fd uintptr) bool {
		events, err := poll(int(fd))
		switch {
		case err != nil:
			inner = err
		case events&unix.POLLIN != 0:
			n, inner = receive(int(fd), buf)
		case events != 0:
			inner = errHangup
		default:
			return false
		}
		return true
	})
	if err != nil {
		return n, err
	}
	return n, inner
}

// poll tells what fd is ready for now.
func poll(fd int) (int16, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(p, 0); err != unix.EINTR {
			return p[0].Revents, err
		}
	}
}

// start handles n on a goroutine. A thread has one call at a time; but where a
// signal may interrupt one that we are at (no WAIT_KILLABLE_RECV), it comes back
// with the same call, which then waits for the end of the first.
func (r *run) start(n notification) {
	before := r.busy[n.tid]
	ended := make(chan struct{})
	for tid, c := range r.busy { // at most Concurrency, and those that ended since
		select {
		case <-c:
			delete(r.busy, tid)
		default:
		}
	}
	r.busy[n.tid] = ended
	r.tasks.Go(func() {
		defer func() { <-r.slots }()
		defer close(ended)
		if before != nil {
			<-before
		}
		r.handle(n)
	})
}

// handle answers one notification.
func (r *run) handle(n notification) {
	if reaches(n) {
		a := pass
		if r.server.Reach != nil {
			a = answerTo(r.server.Reach(), &Event{})
		}
		_ = r.reply(n, a) // the guest may be gone
		return
	}
	if (n.nr == unix.SYS_EPOLL_CREATE1 || sysEpollCreate != 0 && n.nr == sysEpollCreate) && r.keep(n) {
		return
	}
	e := Event{Pid: n.tid, Fd: n.fd(), Outcome: Passed}
	a := pass
	var heard func(error) // told how the sending went
	t, err := openTask(n.tid)
	if err != nil {
		e.Err = err
	} else {
		defer t.close()
		t.noDup = r.server.NoPidfdGetfd
		e.Tgid = t.tgid
	}
	switch n.nr {
	case unix.SYS_BIND:
		e.Call = "bind"
		if err == nil {
			a, heard = r.bind(t, n, &e)
		}
	case unix.SYS_LISTEN:
		e.Call = "listen"
		if err == nil {
			a = r.listen(t, n, &e)
		}
	case unix.SYS_SECCOMP:
		e.Call = "seccomp"
	case unix.SYS_SETSOCKOPT:
		e.Call = "setsockopt"
		if err == nil {
			a = r.setsockopt(t, n, &e)
		}
	}
	err = r.reply(n, a)
	if heard != nil {
		heard(err)
	}
	if err != nil {
		e.Outcome, e.Err = Gone, errors.Join(e.Err, err)
	}
	if e.Call != "" && (e.Call != "setsockopt" || e.Outcome == Ignored) {
		r.server.Observe(e)
	}
}

// reply gives the task its answer; see send.
func (r *run) reply(n notification, a answer) error {
	return control(r.notify, func(fd int) error { return send(fd, r.sizes.resp, n.id, a) })
}

// waiting tells whether the task still waits for its answer.
func (r *run) waiting(n notification) bool {
	ok := false
	err := control(r.notify, func(fd int) error { ok = valid(fd, n.id); return nil })
	return err == nil && ok
}

// locks are mutexes by port.
type locks struct {
	mu sync.Mutex
	by map[uint16]*lock
}

type lock struct {
	sync.Mutex
	users int
}

// take locks port until the result is called.
func (l *locks) take(port uint16) (release func()) {
	l.mu.Lock()
	k := l.by[port]
	if k == nil {
		if l.by == nil {
			l.by = make(map[uint16]*lock)
		}
		k = new(lock)
		l.by[port] = k
	}
	k.users++
	l.mu.Unlock()
	k.Lock()
	return func() {
		k.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.by, port)
		}
	}
}
