package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy accepts clients and connects each to the serving generation. New makes one, Run runs it; all
// other methods are safe for concurrent use, before Run too.
type Proxy struct {
	config  Config
	buffers *bufferPool
	count   counters

	ctx  context.Context // ends with Run
	stop context.CancelFunc

	room chan struct{} // one token for each session; nil: no limit

	mu        sync.Mutex
	sessions  map[uint64]*session
	lastID    uint64
	held      bool
	refusing  bool
	finishing bool
	emptied   chan struct{} // closed when Finish was called and no session is left
	closed    bool          // the public listener

	target atomic.Pointer[target]
	group  sync.WaitGroup
}

// target is where sessions without a leg go.
type target struct {
	Backend
	move   bool // sessions of other generations go there too, when they can
	settle Settle
}

// New checks config and takes its listener.
func New(config Config) (*Proxy, error) {
	config, err := config.normal()
	if err != nil {
		return nil, err
	}
	p := &Proxy{config: config, buffers: newBufferPool(config.Limits.Buffer), sessions: map[uint64]*session{}, emptied: make(chan struct{})}
	p.ctx, p.stop = context.WithCancel(context.Background())
	if n := config.Limits.Sessions; n > 0 {
		p.room = make(chan struct{}, n)
	}
	return p, nil
}

// Addr is the public address.
func (p *Proxy) Addr() net.Addr { return p.config.Public.Addr() }

// Run accepts clients until ctx ends, then resets those that are left and returns when all that it
// started has ended. After Finish it returns when the last session has ended. The error is nil then, or
// says why no client can be accepted any more.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.group.Wait()
	defer p.stop()
	unwatch := context.AfterFunc(ctx, func() {
		p.stop()
		p.closePublic()
		p.each((*session).kill)
	})
	defer unwatch()
	if p.config.Idle > 0 {
		p.group.Go(p.sweep)
	}
	err := p.accept()
	p.mu.Lock()
	finishing := p.finishing
	p.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		err = nil
	case finishing:
		err = nil
		select {
		case <-ctx.Done():
		case <-p.emptied:
		}
	}
	p.closePublic()
	p.stop()
	p.each((*session).kill)
	return err
}

func (p *Proxy) closePublic() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		_ = p.config.Public.Close() // nothing can be done about it
	}
}

// accept until the listener is closed. A lack of descriptors or memory passes: the clients wait in the queue.
func (p *Proxy) accept() error {
	const least, most = 5 * time.Millisecond, time.Second
	pause := least
	for {
		if p.room != nil {
			select {
			case p.room <- struct{}{}:
			case <-p.ctx.Done():
				return nil
			}
		}
		c, err := p.config.Public.Accept()
		if err == nil {
			pause = least
			p.begin(c)
			continue
		}
		p.leaveRoom()
		if errors.Is(err, net.ErrClosed) || p.ctx.Err() != nil {
			return nil
		}
		if !passing(err) {
			return fmt.Errorf("proxy: accept: %w", err)
		}
		p.count.acceptError.Add(1)
		p.config.Observe(Event{Kind: AcceptFailed, Err: err})
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(pause*2, most)
	}
}

func (p *Proxy) leaveRoom() {
	if p.room != nil {
		<-p.room
	}
}

// begin a session, unless clients are refused.
func (p *Proxy) begin(c net.Conn) {
	p.count.accepted.Add(1)
	s := &session{p: p, client: newLink(c), wake: make(chan struct{}, 1)}
	s.touch()
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
	p.sessions[s.id] = s
	p.count.sessions.Add(1)
	p.mu.Unlock()
	p.group.Go(func() {
		defer p.forget(s)
		s.run()
	})
}

func (p *Proxy) forget(s *session) {
	p.leaveRoom()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s.id)
	p.count.sessions.Add(-1)
	p.emptiedLocked()
}

func (p *Proxy) emptiedLocked() {
	if !p.finishing || len(p.sessions) > 0 {
		return
	}
	select {
	case <-p.emptied:
	default:
		close(p.emptied)
	}
}

// each session, in no order. f must not block.
func (p *Proxy) each(f func(*session)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		f(s)
	}
}

// sweep ends idle sessions.
func (p *Proxy) sweep() {
	every := min(max(p.config.Idle/4, time.Millisecond), time.Second)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
			before := time.Now().Add(-p.config.Idle).UnixNano()
			p.each(func(s *session) { s.expire(before) })
		}
	}
}
