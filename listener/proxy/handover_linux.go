//go:build !goroutines

package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Transferable is whether the sessions of a proxy can be handed to another process.
const Transferable = true

// freezing is one Freeze. Its loops wait: who froze them has their sessions to itself.
type freezing struct {
	over chan struct{} // closed by Thaw and Leave
	left bool          // before it is closed: by Leave
	gone chan struct{} // by Leave: loops that have left their sessions
}

func (p *Proxy) freeze(ctx context.Context) error {
	x := &p.plane
	x.mu.Lock()
	if !x.open || x.frozen != nil {
		x.mu.Unlock()
		return errors.New("proxy: freeze: no client is accepted")
	}
	f := &freezing{over: make(chan struct{}), gone: make(chan struct{}, len(x.loops))}
	x.frozen = f
	x.mu.Unlock()
	// Nobody accepts once every loop has heard of it; then no session is on its way to a loop either.
	err := p.inLoops(ctx, func(l *loop, done func()) {
		l.unlisten()
		done()
	})
	if err == nil {
		err = p.inLoops(ctx, func(l *loop, done func()) {
			done()
			select {
			case <-f.over:
				if f.left {
					l.leave()
					f.gone <- struct{}{}
				}
			case <-p.ctx.Done(): // all are reset
			}
		})
	}
	if err != nil {
		p.thaw(false)
		return fmt.Errorf("proxy: freeze: %w", err)
	}
	return nil
}

// inLoops has every loop run f, and waits until each has called done.
func (p *Proxy) inLoops(ctx context.Context, f func(l *loop, done func())) error {
	loops := p.plane.loops
	heard := make(chan struct{}, len(loops))
	for _, l := range loops {
		if !l.post(message{call: func() { f(l, func() { heard <- struct{}{} }) }}) {
			return errors.New("it has stopped")
		}
	}
	for range loops {
		select {
		case <-heard:
		case <-p.ctx.Done():
			return errors.New("it has stopped")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (p *Proxy) thaw(left bool) {
	x := &p.plane
	x.mu.Lock()
	f := x.frozen
	x.frozen = nil
	x.mu.Unlock()
	if f == nil {
		return
	}
	f.left = left
	close(f.over)
	if left {
		for range x.loops {
			select {
			case <-f.gone:
			case <-p.ctx.Done():
			}
		}
		p.stop()
		p.closePublic()
		return
	}
	for _, l := range x.loops {
		l.post(message{})
	}
}

// leave the sockets of all sessions to another process.
func (l *loop) leave() {
	for _, x := range l.slots {
		s := x.session
		if s == nil {
			continue
		}
		s.client.close()
		for _, g := range []*leg{s.leg, s.next} {
			if g != nil {
				g.close()
			}
		}
		l.drop(s)
	}
}

func (p *Proxy) handOver(most int, each func(Parcel) error) error {
	count := p.Stats()
	p.mu.Lock()
	parcel := Parcel{LastID: p.lastID, Count: &count}
	p.mu.Unlock()
	given := false
	give := func() error {
		err := each(parcel)
		parcel, given = Parcel{LastID: parcel.LastID}, true
		return err
	}
	for _, l := range p.plane.loops {
		for _, x := range l.slots {
			s := x.session
			if s == nil {
				continue
			}
			out, err := s.export()
			if err != nil {
				return fmt.Errorf("proxy: hand over: %w", err)
			}
			parcel.Sessions = append(parcel.Sessions, out)
			parcel.Sockets = append(parcel.Sockets, int(s.client.fd))
			for _, g := range []*leg{s.leg, s.next} {
				if g != nil {
					parcel.Sockets = append(parcel.Sockets, int(g.fd))
				}
			}
			if len(parcel.Sessions) == most {
				if err := give(); err != nil {
					return err
				}
			}
		}
	}
	if len(parcel.Sessions) > 0 || !given {
		return give()
	}
	return nil
}

// export is what another process needs to know. A connection that is being made is not handed over: the
// server has heard nothing on it, and another one will be made.
func (s *session) export() (Session, error) {
	up, err := s.up.hold(s.p.buffers, &s.loop.pipes)
	if err != nil {
		return Session{}, err
	}
	down, err := s.down.hold(s.p.buffers, &s.loop.pipes)
	if err != nil {
		return Session{}, err
	}
	out := Session{
		ID: s.id, Entered: s.entered, Greet: s.greet, Carry: s.carry, Up: up, Down: down,
		Sent: s.sent.Load(), Answered: s.answered.Load(), Turns: s.turns.Load(), Outcome: int(s.outcome),
		Finished: s.finished, Ended: s.serverEnded, Left: s.left, Client: s.client.export(), Leg: s.leg.export(), Next: s.next.export(),
		HTTP: s.http.export(),
	}
	if s.intro != nil {
		out.Header, out.Until = s.intro.got, s.intro.until.UnixNano()
	}
	if s.next != nil {
		out.Last, out.Quiet = s.until.UnixNano(), int64(s.quiet)
	}
	return out, nil
}

// hold gives what is pending, and leaves it there.
func (f *flow) hold(pool *bufferPool, l *pipes) ([]byte, error) {
	if !f.pending() {
		return nil, nil
	}
	b, err := f.take(pool, l)
	f.waiting = b
	return b, err
}

func (k *sock) export() Socket {
	return Socket{TCP: k.tcp, Final: k.final, Broken: k.broken, Nagle: k.nagle, Sent: k.sent}
}

func (g *leg) export() *Socket {
	if g == nil {
		return nil
	}
	out := g.sock.export()
	out.Generation, out.Bytes, out.Settled = g.generation, g.bytes.Load(), g.settled.Load()
	return &out
}

// sock takes a socket that was handed over. What can be done with it an epoll instance tells.
func (k Socket) sock(fd int) sock {
	out := newSock(fd, k.TCP)
	out.final, out.broken, out.nagle, out.sent = k.Final, k.Broken, k.Nagle, k.Sent
	return out
}

func (k *Socket) leg(fd int, side uint8) *leg {
	g := &leg{sock: k.sock(fd), generation: k.Generation, side: side}
	g.bytes.Add(k.Bytes)
	g.settled.Store(k.Settled)
	return g
}

func (p *Proxy) land(parcel Parcel) error {
	need := 0
	for _, s := range parcel.Sessions {
		need++
		for _, k := range []*Socket{s.Leg, s.Next} {
			if k != nil {
				need++
			}
		}
		if s.Next != nil && s.Leg == nil || s.Outcome < int(upNone) || s.Outcome > int(upBroken) {
			need = -1
			break
		}
	}
	if need != len(parcel.Sockets) {
		for _, fd := range parcel.Sockets {
			_ = unix.Close(fd) // it is another process's as well
		}
		return fmt.Errorf("proxy: land: %d sockets of %d sessions do not fit", len(parcel.Sockets), len(parcel.Sessions))
	}
	if parcel.Count != nil {
		p.count.add(*parcel.Count)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID = max(p.lastID, parcel.LastID)
	rest := parcel.Sockets
	take := func() int {
		fd := rest[0]
		rest = rest[1:]
		return fd
	}
	for _, in := range parcel.Sessions {
		s := &session{state: state{p: p, id: in.ID, held: p.held}, client: in.Client.sock(take())}
		if in.Leg != nil {
			s.side = sideLeg
			s.leg = in.Leg.leg(take(), s.side)
		}
		if in.Next != nil {
			s.side = sideLeg + 1
			s.next = in.Next.leg(take(), s.side)
			s.until, s.quiet = time.Unix(0, in.Last), time.Duration(in.Quiet)
		}
		s.restore(in)
		s.told = true // its loop, which is none yet
		p.makeRoom()
		p.sessions[s.id] = s
		p.count.sessions.Add(1)
		p.plane.landed = append(p.plane.landed, s)
	}
	return nil
}

// restore what export gave, but for the sockets.
func (s *session) restore(in Session) {
	s.greet, s.carry, s.up.waiting, s.down.waiting = in.Greet, in.Carry, in.Up, in.Down
	s.sent.Store(in.Sent)
	s.answered.Store(in.Answered)
	s.turns.Store(in.Turns)
	s.outcome, s.finished, s.serverEnded, s.left = upEnd(in.Outcome), in.Finished, in.Ended, in.Left
	s.entered, s.ready = in.Entered, in.Entered
	if in.HTTP != nil {
		s.http = in.HTTP.exchange()
	}
	if in.Until != 0 {
		s.intro = &introduction{until: time.Unix(0, in.Until), got: in.Header}
	}
	if s.entered && s.leg == nil {
		s.park(true)
	}
}

// makeRoom for a session that is there already, whatever the limit is now. Precondition: Run does not run yet.
func (p *Proxy) makeRoom() {
	for !p.takeRoom() {
		more := make(chan struct{}, 2*cap(p.room))
		for range len(p.room) {
			more <- struct{}{}
		}
		p.room = more
	}
}

// seatLanded gives the sessions that landed to loops.
func (p *Proxy) seatLanded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.plane.landed {
		s.loop = p.plane.choose(nil)
		s.loop.load.Add(1)
		s.loop.post(message{to: s, adopt: true}) // no loop has ended: none has begun
	}
	p.plane.landed = nil
}

// watchLegs has the loop hear of the legs of a session that landed.
func (s *session) watchLegs() error {
	for _, g := range []*leg{s.leg, s.next} {
		if g == nil {
			continue
		}
		if err := s.watchLeg(g); err != nil {
			return err
		}
	}
	return nil
}
