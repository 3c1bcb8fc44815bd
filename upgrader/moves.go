package upgrader

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/upgrader/upgrader/listener/proxy"
	"github.com/upgrader/upgrader/upgrader/control"
)

// What the proxies do in a swap.
//
// Overlap: once the successor is steered to, the clients' connections move to
// it, before the predecessor is asked to quit. Exclusive: clients are held
// until the predecessor is quiet, or settle-max is over, and then until
// somebody serves; the predecessor's last words are delivered meanwhile.

// serveProxies has every client that has no server connected to g, which
// serves, and those of others when their server ends their connection.
func (s *Service) serveProxies(g *generation) {
	for _, p := range s.proxies.all {
		before := p.proxy.Stats()
		p.proxy.Serve(p.backend(g))
		p.proxy.Left(func(generation int) bool { return s.generations[generation] == nil }) // whose connections end, if the proxy has not heard of it yet
		p.proxy.Resume()
		if before.Parked == 0 {
			continue
		}
		s.spawn(func() { s.awaitResumed(p, g, before) })
	}
}

// resumedWithin is how long clients that were held are watched, for the event.
const resumedWithin = 10 * time.Second

// awaitResumed tells how the clients that were held went on.
func (s *Service) awaitResumed(p *proxied, g *generation, before proxy.Stats) {
	ctx, cancel := context.WithTimeout(g.run, resumedWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	now := p.proxy.Stats()
	for now.Parked > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		now = p.proxy.Stats()
	}
	message := fmt.Sprintf("%d connections of %s resumed, %d reset", now.Resumed-before.Resumed, p.Public, now.Reset-before.Reset)
	s.tell(func() { s.observe(Event{What: EventMoved, Generation: g.number, Message: message}) })
}

// moveProxies takes the clients' connections to g while their server still
// runs. It is for goroutines.
func (s *Service) moveProxies(ctx context.Context, g *generation) {
	s.eachProxy(func(p *proxied) {
		if *p.Policy == proxy.PolicyResume {
			p.proxy.Serve(p.backend(g)) // each goes when its server ends its connection
			return
		}
		began := time.Now()
		done, err := p.proxy.Move(ctx, p.backend(g), s.settled())
		if done.Done+done.Stayed == 0 && err == nil {
			return
		}
		message := fmt.Sprintf("%d connections of %s moved", done.Done, p.Public)
		if done.Stayed > 0 {
			message += fmt.Sprintf(", %d were not quiet and stay until they are", done.Stayed)
		}
		s.tell(func() {
			s.observe(Event{What: EventMoved, Generation: g.number, Message: message, Took: time.Since(began), Err: err})
		})
	})
}

// drainProxies holds the clients, and returns when the server that they are
// connected to has answered them all, or settle-max is over. It is for
// goroutines.
func (s *Service) drainProxies(ctx context.Context, g *generation) {
	s.eachProxy(func(p *proxied) {
		began := time.Now()
		done, err := p.proxy.Drain(ctx, s.settled())
		if done.Done+done.Stayed == 0 && err == nil {
			return
		}
		message := fmt.Sprintf("%d connections of %s held", done.Done+done.Stayed, p.Public)
		if done.Stayed > 0 {
			message += fmt.Sprintf(", %d of them not quiet", done.Stayed)
		}
		s.tell(func() {
			s.observe(Event{What: EventHeld, Generation: g.number, Message: message, Took: time.Since(began), Err: err})
		})
	})
}

// leaveLingering has the clients that are held leave g, which has saved and
// lingers, once they have heard what it said.
func (s *Service) leaveLingering(g *generation) {
	for _, p := range s.proxies.all {
		p.proxy.Left(func(generation int) bool { return generation == g.number })
	}
}

// eachProxy runs f for all at once.
func (s *Service) eachProxy(f func(*proxied)) {
	var all sync.WaitGroup
	for _, p := range s.proxies.all {
		all.Go(func() { f(p) })
	}
	all.Wait()
}

func (s *Service) settled() proxy.Settle {
	return proxy.Settle{Quiet: s.config.Settle, Max: s.config.SettleMax}
}

// refuseProxies has clients without a server reset, until somebody serves.
func (s *Service) refuseProxies() {
	for _, p := range s.proxies.all {
		p.proxy.Refuse()
	}
}

// finishProxies takes no more clients: from now on a server that ends a
// connection ends its client's.
func (s *Service) finishProxies() {
	s.proxies.left = len(s.proxies.all)
	for _, p := range s.proxies.all {
		s.spawn(func() {
			_ = p.proxy.Finish(s.run) // it ends with us: what is left is reset then
			s.tell(func() {
				s.proxies.left--
				s.checkStopped()
			})
		})
	}
}

// lastWords is how long clients that read slowly may take for what their
// server said last, once it is gone, and silence how long a pause in that is
// its end: clients that just stay are not waited for.
const (
	lastWords = 5 * time.Second
	silence   = 200 * time.Millisecond
)

// heardOut reports whether all clients have heard the last of their server.
// If not, the end of the service is looked at again.
func (p *proxies) heardOut(s *Service) bool {
	if p.left == 0 || p.hurried {
		return true
	}
	if p.waited == nil {
		p.listenOn(s, time.Now().Add(lastWords), p.bytesDown())
	}
	return false
}

// listenOn waits for a silence, or the deadline.
func (p *proxies) listenOn(s *Service, deadline time.Time, before int64) {
	p.waited = time.AfterFunc(silence, func() {
		s.tell(func() {
			if now := p.bytesDown(); now != before && time.Now().Before(deadline) {
				p.listenOn(s, deadline, now)
				return
			}
			p.hurried = true
			s.checkStopped()
		})
	})
}

func (p *proxies) bytesDown() (sum int64) {
	for _, one := range p.all {
		sum += one.proxy.Stats().BytesDown
	}
	return sum
}

// proxyStatus is what the status tells of the proxies.
func (s *Service) proxyStatus() []control.Proxy {
	var out []control.Proxy
	for _, p := range s.proxies.all {
		n := p.proxy.Stats()
		backend := "intercepted"
		if !p.Intercepted() {
			backend = p.Backend.String()
		}
		out = append(out, control.Proxy{
			Address: p.Public.String(), Backend: backend, Policy: p.Policy.String(),
			Connections: n.Sessions, Held: n.Parked, Accepted: n.Accepted, Moved: n.Moved, Resumed: n.Resumed, Stayed: n.Stayed,
			Unconfirmed: n.Unconfirmed, InFlight: n.InFlight, Reset: n.Reset, Replayed: n.Replayed, NotUnderstood: n.Opaque,
			DialFailed: n.DialFailed, AcceptFailed: n.AcceptError, Rejected: n.Rejected, Idle: n.Idle, BytesUp: n.BytesUp, BytesDown: n.BytesDown,
		})
	}
	return out
}

// reports keeps what many connections have to tell at once from filling the log.
type reports struct {
	mu   sync.Mutex
	last map[proxy.Kind]time.Time
}

// toldEvery is how often one kind of event is told; the rest is counted.
const toldEvery = 10 * time.Second

func (t *reports) due(kind proxy.Kind, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.last[kind]; ok && now.Sub(last) < toldEvery {
		return false
	}
	if t.last == nil {
		t.last = map[proxy.Kind]time.Time{}
	}
	t.last[kind] = now
	return true
}

// proxyEvent passes on what went wrong with a connection. It is called by any
// goroutine and must not block.
func (s *Service) proxyEvent(p *proxied, e proxy.Event) {
	switch e.Kind {
	case proxy.AcceptFailed, proxy.DialFailed, proxy.HeaderRejected, proxy.LostInFlight:
	default:
		return // counted, see the status
	}
	if !p.told.due(e.Kind, time.Now()) {
		return
	}
	message := fmt.Sprintf("%s: %s (told once in %v, counted in the status)", p.Public, e.Kind, toldEvery)
	s.spawn(func() {
		s.tell(func() {
			s.observe(Event{What: EventNote, Generation: e.Generation, Message: message, Err: e.Err, Warning: true})
		})
	})
}
