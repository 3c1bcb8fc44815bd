//go:build !goroutines

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// loopsMost is how many event loops a proxy has at most.
const loopsMost = 4

// plane is what moves bytes: event loops.
type plane struct {
	loops []*loop
	deaf  atomic.Int32 // loops that do not hear of the public socket for lack of room

	mu     sync.RWMutex
	public int  // the public socket's duplicate, when open
	open   bool // the loops accept from it
	tcp    bool
	each   bool       // its clients do not have what it has: Multipath TCP
	quit   chan error // how accepting ended; one slot
	frozen *freezing  // nil: it is not
	landed []*session // those that no loop has yet; guarded by Proxy.mu
}

// startPlane starts the loops.
func (p *Proxy) startPlane() error {
	p.plane.quit = make(chan error, 1)
	// One processor is left to the rest of the program.
	processors := runtime.GOMAXPROCS(0)
	n := max(min(processors-1, loopsMost), 1)
	for range n {
		l, err := newLoop(p)
		if err != nil {
			for _, l := range p.plane.loops {
				l.close()
			}
			return fmt.Errorf("proxy: event loop: %w", err)
		}
		l.eager = processors > 1
		if most := p.config.Limits.Moves; most > 0 {
			l.moves.most = max(most/n, 1)
		}
		p.plane.loops = append(p.plane.loops, l)
	}
	p.seatLanded()
	for _, l := range p.plane.loops {
		p.group.Go(l.run)
		context.AfterFunc(p.ctx, l.wake)
	}
	return nil
}

// acceptAll accepts until the listener is closed. The loops accept from a plain socket; a listener that
// wraps one is asked by a goroutine.
func (p *Proxy) acceptAll() error {
	switch p.config.Public.(type) {
	case *net.TCPListener, *net.UnixListener:
	default:
		return p.accept()
	}
	if err := p.openPublic(); err != nil {
		return fmt.Errorf("proxy: public: %w", err)
	}
	select {
	case <-p.ctx.Done():
		return nil
	case err := <-p.plane.quit:
		return err
	}
}

func (p *Proxy) openPublic() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.plane.stop(nil)
		return nil
	}
	fd, err := duplicate(p.config.Public)
	if err != nil {
		return err
	}
	_, tcp := p.config.Public.(*net.TCPListener)
	plain := tcp && isTCP(fd)
	if plain {
		if err := p.tuneClient(fd); err != nil {
			_ = unix.Close(fd) // of no use
			return err
		}
	}
	p.plane.mu.Lock()
	p.plane.public, p.plane.open, p.plane.tcp, p.plane.each = fd, true, tcp, tcp && !plain
	p.plane.mu.Unlock()
	if tcp {
		// The runtime's own poller would wake for each client. A Unix listener stays: it may own the path.
		_ = p.config.Public.Close() // the duplicate is what counts
	}
	for _, l := range p.plane.loops {
		l.post(message{})
	}
	return nil
}

// stop accepting, for a reason; nil: it was asked for.
func (x *plane) stop(err error) {
	select {
	case x.quit <- err:
	default:
	}
}

// closePublic ends accepting. The socket may go on elsewhere: it must be taken out of each epoll.
func (x *plane) closePublic() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.open {
		return
	}
	x.open = false
	for _, l := range x.loops {
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, x.public, nil) // it may not be there
	}
	_ = unix.Close(x.public) // nothing can be done about it
	x.stop(nil)
}

// hasRoom tells the loops that a session has ended.
func (x *plane) hasRoom() {
	if x.deaf.Load() > 0 {
		for _, l := range x.loops {
			l.post(message{})
		}
	}
}

// listen hears of the public socket again, if it does not.
func (l *loop) listen() {
	x := &l.p.plane
	x.mu.RLock()
	defer x.mu.RUnlock()
	if !l.deaf || !x.open || x.frozen != nil || l.listenAt != 0 {
		return
	}
	if l.full {
		l.full = false
		x.deaf.Add(-1)
	}
	// One loop wakes for one client (epoll_ctl(2), EPOLLEXCLUSIVE).
	if err := l.watch(x.public, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, ticket{slot: slotPublic}, 0); err != nil {
		x.stop(fmt.Errorf("proxy: accept: %w", err))
		return
	}
	l.deaf = false
}

// unlisten hears of it no more.
func (l *loop) unlisten() {
	x := &l.p.plane
	x.mu.RLock()
	defer x.mu.RUnlock()
	if !l.deaf && x.open {
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, x.public, nil) // it is there
	}
	l.deaf = true
}

// accept a client. If there are more the next wait says so: to ask for one that is not there makes and
// drops a descriptor, which costs more than a wait that has something to tell anyway.
func (l *loop) accept() {
	if !l.p.takeRoom() {
		l.full = true
		l.unlisten()
		l.p.plane.deaf.Add(1)
		if len(l.p.room) < cap(l.p.room) { // it was left meanwhile
			l.listen()
		}
		return
	}
	k, err := l.p.take()
	if err == nil {
		l.pause = 0
		l.p.admit(k, l)
		return
	}
	l.p.giveRoom()
	switch {
	case err == errAgain, errors.Is(err, net.ErrClosed), err == unix.EINTR, err == unix.ECONNABORTED:
		return
	}
	err = os.NewSyscallError("accept4", err)
	if !passing(err) {
		l.p.plane.stop(fmt.Errorf("proxy: accept: %w", err))
		l.unlisten()
		return
	}
	l.p.count.acceptError.Add(1)
	l.p.config.Observe(Event{Kind: AcceptFailed, Err: err})
	l.pause = min(max(l.pause*2, leastPause), mostPause)
	l.listenAt = l.now + int64(l.pause)
	l.unlisten()
}

func (p *Proxy) take() (sock, error) {
	x := &p.plane
	x.mu.RLock()
	defer x.mu.RUnlock()
	if !x.open {
		return sock{fd: -1}, net.ErrClosed
	}
	fd, errno := accept4(x.public)
	if errno != 0 {
		return sock{fd: -1}, errno
	}
	if x.each {
		if err := p.tuneClient(fd); err != nil {
			_ = unix.Close(fd) // it has ended already
			return sock{fd: -1}, unix.ECONNABORTED
		}
		return newSock(fd, isTCP(fd)), nil
	}
	return newSock(fd, x.tcp), nil
}

// takeRoom for one session, without waiting.
func (p *Proxy) takeRoom() bool {
	if p.room == nil {
		return true
	}
	select {
	case p.room <- struct{}{}:
		return true
	default:
		return false
	}
}

// giveRoom back that no session needed.
func (p *Proxy) giveRoom() {
	if p.room != nil {
		<-p.room
	}
}

// begin a session with a client that a listener of another kind accepted.
func (p *Proxy) begin(c net.Conn) {
	err := p.tune(c)
	k, failed := detach(c)
	if err = errors.Join(err, failed); err != nil {
		k.abort()
		p.count.acceptError.Add(1)
		p.config.Observe(Event{Kind: AcceptFailed, Err: err})
		p.leaveRoom()
		return
	}
	p.admit(k, nil)
}

// admit a client, unless clients are refused. l is the loop that accepted it; nil: none.
func (p *Proxy) admit(k sock, l *loop) {
	p.count.accepted.Add(1)
	to, s := p.plane.choose(l), (*session)(nil)
	mine := to == l
	if mine { // another loop must not have one that this loop may still have post about
		s = l.fresh()
	} else {
		s = &session{}
	}
	s.p, s.client, s.loop = p, k, to
	if p.config.Policy == PolicyHTTP1 {
		s.http = newExchange()
	}
	p.mu.Lock()
	if p.refusing || p.finishing || p.ctx.Err() != nil {
		p.mu.Unlock()
		p.count.reset.Add(1)
		s.client.abort()
		p.leaveRoom()
		return
	}
	p.lastID++
	s.id, s.held = p.lastID, p.held
	s.ready = p.config.HeaderIn.Mode == HeaderOff && !p.config.HeaderOut
	p.sessions[s.id] = s
	p.count.sessions.Add(1)
	s.loop.load.Add(1)
	if !mine && !s.loop.post(message{to: s, adopt: true}) {
		mine = true // it has ended, and so will this one
	}
	p.mu.Unlock()
	if !mine {
		return
	}
	if l == nil {
		s.reset()
		p.forget(s)
		return
	}
	s.loop = l
	l.adopt(s)
}

// choose the loop of a new session: the one that accepted it, unless another has clearly less to do.
func (x *plane) choose(l *loop) *loop {
	const slack = 2
	best := l
	for _, o := range x.loops {
		if best == nil || o.load.Load()+slack <= best.load.Load() && o != best {
			best = o
		}
	}
	return best
}
