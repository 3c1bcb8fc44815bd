//go:build !linux || goroutines

package proxy

import (
	"net"
	"time"
)

// plane is what moves bytes: here, the goroutines of each session.
type plane struct{}

func (*plane) closePublic() {}
func (*plane) hasRoom()     {}

func (p *Proxy) startPlane() error {
	if p.config.Idle > 0 {
		p.group.Go(p.sweep)
	}
	return nil
}

func (p *Proxy) acceptAll() error { return p.accept() }

// begin a session, unless clients are refused.
func (p *Proxy) begin(c net.Conn) {
	p.count.accepted.Add(1)
	s := newSession(p, c)
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
