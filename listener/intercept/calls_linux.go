package intercept

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// bind answers bind(2). heard, if not nil, wants to know how the sending of
// the answer went.
func (r *run) bind(t *task, n notification, e *Event) (a answer, heard func(error)) {
	inode, ok := t.inode(n.fd())
	if !ok {
		e.Err = because("descriptor %d is no socket that can be seen", n.fd())
		return pass, nil
	}
	size := uint32(n.args[2])
	if size < sizeInet || size > sizeMax {
		e.Err = because("the address is %d bytes long", size)
		return pass, nil
	}
	raw, err := t.read(n.args[1], int(size))
	if err != nil {
		e.Err = err
		return pass, nil
	}
	to, ok := parseSockaddr(raw)
	if !ok {
		e.Err = because("no address of TCP or UDP with a port")
		return pass, nil
	}
	e.Addr = to.addr
	if r.server.Handler.Owns(inode) {
		if r.hear(inode, string(raw)) {
			e.Outcome = Injected
			return done, nil // the call that a signal interrupted just after its lane had come
		}
		e.Err = because("it is a lane, and bound")
		return pass, nil
	}
	sock, err := r.describe(t, n.fd(), inode, to)
	if err != nil {
		e.Err = err
		return pass, nil
	}
	req := Request{Pid: t.tid, Tgid: t.tgid, Fd: n.fd(), Inode: inode, Socket: sock}

	// Until it is injected, a lane looks like one that its guest has closed:
	// nobody else may ask for the same address meanwhile.
	defer r.ports.take(to.addr.Port())()
	if !r.waiting(n) {
		e.Outcome, e.Err = Gone, because("the task is gone")
		return pass, nil
	}
	lane, err := r.server.Handler.Bind(req)
	if err != nil {
		return answerTo(err, e), nil
	}
	defer lane.File.Close()
	laneInode, err := r.put(t, n, lane, req, e)
	if err != nil {
		if lane.Lost != nil {
			lane.Lost()
		}
		e.Outcome, e.Err = Refused, err
		if errors.Is(err, unix.ENOENT) {
			e.Outcome = Gone
		}
		return refuse(errnoOr(err, unix.EADDRNOTAVAIL)), nil
	}
	e.Outcome = Injected
	return done, func(err error) {
		if err != nil { // a signal came between lane and answer, or the guest is gone
			r.mu.Lock()
			defer r.mu.Unlock()
			r.unheard[laneInode] = string(raw)
		}
	}
}

// hear tells whether the guest asks again for what it has got already.
func (r *run) hear(inode uint64, raw string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked, ok := r.unheard[inode]
	delete(r.unheard, inode)
	return ok && asked == raw
}

// put injects the lane over every number that the guest has for its socket,
// and makes its epoll registrations again. It returns the lane's inode.
func (r *run) put(t *task, n notification, lane Injection, req Request, e *Event) (uint64, error) {
	var st unix.Stat_t
	err := control(lane.File, func(fd int) error {
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		return setNonblock(fd, req.Socket.NonBlocking)
	})
	if err != nil {
		return 0, fmt.Errorf("intercept: prepare lane: %w", err)
	}
	same, epolls, err := t.descriptors(req.Inode)
	e.Err = err // without the list, the one number is enough for nearly everybody
	same = slices.DeleteFunc(same, func(fd int) bool { return fd == req.Fd })
	same = slices.Insert(same, 0, req.Fd)
	watches, closeSets, err := r.watches(t, req.Inode, same, epolls)
	defer closeSets()
	if err != nil {
		return 0, err
	}
	for i, fd := range same {
		info, err := t.fdinfo(fd)
		cloexec := err == nil && info.flags&unix.O_CLOEXEC != 0
		err = errors.Join(err, control(r.notify, func(notify int) error {
			return control(lane.File, func(src int) error { return inject(notify, n.id, src, fd, cloexec) })
		}))
		if err != nil && i == 0 {
			return 0, fmt.Errorf("intercept: inject lane: %w", err)
		}
		e.Err = errors.Join(e.Err, err)
	}
	made, err := rewatch(lane.File, watches)
	e.Rewatched, e.Err = made, errors.Join(e.Err, err)
	return st.Ino, nil
}

// setNonblock changes the description only where it differs: it is shared
// with everybody who has the lane.
func setNonblock(fd int, on bool) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || (flags&unix.O_NONBLOCK != 0) == on {
		return err
	}
	return unix.SetNonblock(fd, on)
}

// listen answers listen(2).
func (r *run) listen(t *task, n notification, e *Event) answer {
	inode, ok := t.inode(n.fd())
	if !ok || !r.server.Handler.Owns(inode) {
		e.Err = because("it is no lane")
		return pass
	}
	if k, err := t.protocol(n.fd()); err == nil && k.sort != unix.SOCK_STREAM {
		e.Err = because("it is no stream")
		return pass // to EOPNOTSUPP
	}
	if !r.waiting(n) {
		e.Outcome, e.Err = Gone, because("the task is gone")
		return pass
	}
	err := r.server.Handler.Listen(Request{Pid: t.tid, Tgid: t.tgid, Fd: n.fd(), Inode: inode})
	if err != nil {
		return answerTo(err, e)
	}
	e.Outcome = Listened
	return done
}

// setsockopt answers the few options that the filter lets through to us.
func (r *run) setsockopt(t *task, n notification, e *Event) answer {
	inode, ok := t.inode(n.fd())
	if !ok {
		return pass
	}
	level, name := uint32(n.args[1]), uint32(n.args[2])
	for _, a := range attaching {
		if level == unix.SOL_SOCKET && name == a {
			if !r.server.Handler.Owns(inode) {
				return pass
			}
			e.Outcome = Ignored
			return done
		}
	}
	if uint32(n.args[4]) < 4 {
		return pass
	}
	b, err := t.read(n.args[3], 4)
	if err != nil || !r.waiting(n) {
		return pass
	}
	value := 0
	if binary.NativeEndian.Uint32(b) != 0 {
		value = 1
	}
	r.learned.set(inode, func(s *setting) {
		if level == unix.SOL_SOCKET {
			s.reusePort = value
		} else {
			s.v6Only = value
		}
	})
	return pass
}

// answerTo turns a Handler's error into an answer.
func answerTo(err error, e *Event) answer {
	e.Err = err
	var errno unix.Errno
	if err != nil && !errors.Is(err, ErrPass) && errors.As(err, &errno) && errno != 0 {
		e.Outcome = Refused
		return refuse(errno)
	}
	e.Outcome = Passed
	return pass
}

func errnoOr(err error, other unix.Errno) unix.Errno {
	var errno unix.Errno
	if errors.As(err, &errno) && errno != 0 {
		return errno
	}
	return other
}
