//go:build !goroutines

package proxy

import (
	"encoding/binary"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// loop is one event loop: a goroutine that alone touches the sockets of its sessions. Everything else is
// told to it by post.
type loop struct {
	p      *Proxy
	eager  bool // see wait
	epoll  int
	bell   int // eventfd: there is post
	buffer []byte
	pipes  pipes
	alarms alarms
	wheel  wheel
	moves  moves
	slots  []slot
	free   []int32
	spare  []*session // see fresh
	ready  []ticket   // sessions with more to do, of this turn
	now    int64      // ns since 1970, at the start of this turn
	load   atomic.Int64

	deaf     bool // the public socket is not in epoll
	full     bool // for lack of room
	pause    time.Duration
	listenAt int64 // when accept is tried again after it failed; 0: it did not

	known    *target   // a target with an address
	endpoint *endpoint // its
	alive    int       // the generation that was not gone at lookedAt
	lookedAt int64

	mu     sync.Mutex
	inbox  []message
	closed bool
}

// slot of the table of sessions. A ticket names one use of it, so that an event that comes late is nobody's.
type slot struct {
	session *session
	turn    uint32
}

type ticket struct {
	slot int32
	turn uint32
}

// Slots that are no session's.
const (
	slotBell int32 = iota
	slotPublic
	slotsFixed
)

// message to a loop.
type message struct {
	to      *session // nil: about the public socket
	adopt   bool
	attempt *attempt // whose outcome is known
	call    func()   // nil: none; else nothing else is meant
	left    int      // generation whose server has said all that it will; 0: none
}

func newLoop(p *Proxy) (*loop, error) {
	l := &loop{p: p, pipes: pipes{size: 4 * p.config.Limits.Buffer}, wheel: newWheel(p.config.Idle), slots: make([]slot, slotsFixed), deaf: true}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if l.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(l.epoll) // of no use
		return nil, os.NewSyscallError("eventfd2", err)
	}
	if err := l.watch(l.bell, unix.EPOLLIN|unix.EPOLLET, ticket{slot: slotBell}, 0); err != nil {
		l.close()
		return nil, err
	}
	l.buffer = make([]byte, p.config.Limits.Buffer)
	return l, nil
}

func (l *loop) watch(fd int, events uint32, t ticket, side uint8) error {
	return os.NewSyscallError("epoll_ctl", epollAdd(l.epoll, fd, &unix.EpollEvent{Events: events, Fd: t.slot, Pad: int32(t.turn<<2 | uint32(side))}))
}

// post tells the loop; false: it has ended.
func (l *loop) post(m message) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if l.inbox = append(l.inbox, m); len(l.inbox) == 1 {
		l.ring()
	}
	return true
}

func (l *loop) ring() {
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(l.bell, one) // never full: 2^64 is enough
}

// wake the loop, so that it sees the end of its proxy.
func (l *loop) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.ring()
	}
}

func (l *loop) run() {
	events := make([]unix.EpollEvent, 128)
	for l.p.ctx.Err() == nil {
		n := l.wait(events)
		l.now = time.Now().UnixNano()
		ready := l.ready
		l.ready = nil
		for i := range n {
			l.dispatch(&events[i])
		}
		l.read()
		for _, t := range ready {
			if s := l.at(t); s != nil {
				l.advance(s)
			}
		}
		l.elapse()
		l.callMoves()
	}
	l.finish()
}

// wait for events. A loop that is busy keeps its processor for a moment: to give it up and take it back for
// each message costs more than the message. Precondition: there is another one, or l.eager is false.
func (l *loop) wait(events []unix.EpollEvent) int {
	const moment = 1 // ms
	timeout := l.timeout()
	if l.eager && timeout != 0 {
		if n, errno := epollWait(l.epoll, events, moment); errno == 0 && n > 0 {
			return n
		}
		if timeout = l.timeout(); l.p.ctx.Err() != nil {
			return 0
		}
	}
	n, err := unix.EpollWait(l.epoll, events, timeout)
	if err != nil && err != unix.EINTR {
		panic(os.NewSyscallError("epoll_wait", err)) // our own descriptor and memory
	}
	return max(n, 0)
}

func (l *loop) dispatch(e *unix.EpollEvent) {
	switch e.Fd {
	case slotBell: // edge-triggered: nobody reads it
	case slotPublic:
		l.accept()
	default:
		s := l.at(ticket{slot: e.Fd, turn: uint32(e.Pad) >> 2})
		if s == nil {
			return // it has ended in this turn
		}
		s.note(uint8(e.Pad&3), e.Events)
		l.advance(s)
	}
}

func (l *loop) at(t ticket) *session {
	if x := &l.slots[t.slot]; x.turn == t.turn {
		return x.session
	}
	return nil
}

// read what was posted.
func (l *loop) read() {
	l.mu.Lock()
	inbox := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	for _, m := range inbox {
		switch {
		case m.call != nil:
			m.call()
		case m.to == nil:
			l.listen()
		case m.adopt:
			l.adopt(m.to)
		case m.attempt != nil:
			m.to.dialed(m.attempt)
			if l.at(m.to.ticket) == m.to {
				l.advance(m.to)
			}
		case l.at(m.to.ticket) == m.to:
			if m.left != 0 {
				m.to.leaveNow(m.left)
			}
			l.advance(m.to)
		}
	}
}

// elapse does what is due.
func (l *loop) elapse() {
	for s := l.alarms.due(l.now); s != nil; s = l.alarms.due(l.now) {
		l.advance(s)
	}
	for due, ok := l.wheel.turn(l.now); ok; due, ok = l.wheel.turn(l.now) {
		for _, t := range due {
			if s := l.at(t); s != nil && !l.expired(s) {
				l.wheel.add(t, max(s.last.Load(), l.now-l.wheel.idle+l.wheel.step)+l.wheel.idle)
			}
		}
	}
	if l.listenAt != 0 && l.now >= l.listenAt {
		l.listenAt = 0
		l.listen()
	}
}

// timeout of the next wait, in ms; -1: none.
func (l *loop) timeout() int {
	if len(l.ready) > 0 {
		return 0
	}
	at := l.listenAt
	sooner := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	if len(l.alarms) > 0 {
		sooner(l.alarms[0].alarm)
	}
	if l.wheel.count > 0 {
		sooner(l.wheel.next)
	}
	if at == 0 {
		return -1
	}
	wait := at - time.Now().UnixNano()
	return int(min(max((wait+int64(time.Millisecond)-1)/int64(time.Millisecond), 0), int64(time.Hour/time.Millisecond)))
}

// adopt a session: from here on it is this loop's.
func (l *loop) adopt(s *session) {
	if n := len(l.free); n > 0 {
		s.ticket.slot = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		s.ticket.slot = int32(len(l.slots))
		l.slots = append(l.slots, slot{})
	}
	x := &l.slots[s.ticket.slot]
	x.session, s.ticket.turn = s, x.turn
	s.last.Store(l.now)
	if l.wheel.idle != 0 {
		l.wheel.add(s.ticket, l.now+l.wheel.idle)
	}
	err := l.watch(int(s.client.fd), edges, s.ticket, sideClient)
	if err == nil {
		err = s.watchLegs()
	}
	if err != nil {
		s.reset()
		l.drop(s)
		return
	}
	l.advance(s)
}

func (l *loop) advance(s *session) {
	switch s.advance() {
	case done:
		l.drop(s)
	case again:
		l.ready = append(l.ready, s.ticket)
	case waits:
	}
}

// sessionsSpare is how many sessions that have ended a loop keeps.
const sessionsSpare = 64

// fresh gives a session for a client, one that has ended if there is one: clients that come and go make little
// garbage.
func (l *loop) fresh() *session {
	if len(l.spare) == 0 {
		return &session{}
	}
	last := len(l.spare) - 1
	s := l.spare[last]
	l.spare = l.spare[:last]
	return s
}

// drop a session that has ended.
func (l *loop) drop(s *session) {
	x := &l.slots[s.ticket.slot]
	x.session, x.turn = nil, (x.turn+1)&(1<<30-1)
	l.free = append(l.free, s.ticket.slot)
	l.alarms.clear(s)
	s.end()
	l.load.Add(-1)
	l.p.forget(s) // now nobody else has it, but for post, which only makes its next client looked at once more
	if len(l.spare) < sessionsSpare {
		*s = session{}
		l.spare = append(l.spare, s)
	}
}

// finish resets all that are left.
func (l *loop) finish() {
	l.read() // those that were given to this loop
	for _, x := range l.slots {
		if s := x.session; s != nil {
			s.abort()
			l.drop(s)
		}
	}
	l.mu.Lock()
	l.closed = true
	inbox := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	for _, m := range inbox {
		switch {
		case m.adopt:
			m.to.reset()
			l.p.forget(m.to)
		case m.attempt != nil:
			m.to.dialed(m.attempt) // it is nobody's, and closed
		}
	}
	l.close()
}

func (l *loop) close() {
	l.pipes.close()
	x := &l.p.plane // whose closePublic uses epoll
	x.mu.Lock()
	defer x.mu.Unlock()
	_ = unix.Close(l.bell)  // nothing can be done about it
	_ = unix.Close(l.epoll) // same
	l.epoll = -1
}
