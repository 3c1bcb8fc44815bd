package proxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
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
	plane  plane
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
	if err := p.startPlane(); err != nil {
		p.closePublic()
		return err
	}
	err := p.acceptAll()
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
		p.plane.closePublic()
		_ = p.config.Public.Close() // nothing can be done about it
	}
}

func (p *Proxy) leaveRoom() {
	if p.room != nil {
		<-p.room
		p.plane.hasRoom()
	}
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
