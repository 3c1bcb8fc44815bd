package upgrader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/proxy"
)

// proxies are all of a service. The loop owns them; what others need is
// guarded by their own locks.
type proxies struct {
	all    []*proxied
	public *listener.Set // holds the public addresses; nil: there is nothing to hold, or no set for it
	lives  lives

	left    int         // at a full stop: proxies with clients
	waited  *time.Timer // until they are not waited for any more
	hurried bool        // they are not
}

// proxied is one proxy and the way to its server.
type proxied struct {
	Proxied
	proxy  *proxy.Proxy
	claim  *listener.Claim // of the public address; nil where there are no claims
	set    *listener.Set   // of the backends
	within context.Context // the service's
	told   reports

	mu      sync.Mutex
	private []*listener.Claim // what the server's own binds of the public address become
}

// openProxies accepts clients from now on: they wait for somebody who serves.
func (s *Service) openProxies(private map[string][]string) error {
	if len(s.config.Proxies) == 0 {
		return nil
	}
	s.proxies.public = s.publicSet()
	if in := s.inheritance; in != nil {
		if err := takeLanes(s.proxies.public, in.Inheritance, "public", in.handed.Public); err != nil {
			return err
		}
		private = in.handed.Private
	}
	n := len(s.config.Proxies)
	if s.config.Fleet != nil {
		n = max(n, s.config.Fleet.Proxies)
	}
	for _, c := range s.config.Proxies {
		p := &proxied{Proxied: c, set: s.set, within: s.run}
		if err := s.openProxy(p, n); err != nil {
			return err
		}
		for _, address := range private[p.Public.String()] {
			if a, err := listener.ParseAddress(address); err == nil {
				if claim, err := s.set.Claim(s.run, a); err == nil {
					p.private = append(p.private, claim)
				} // the server's own bind makes another
			}
		}
		s.proxies.all = append(s.proxies.all, p)
	}
	return nil
}

func (s *Service) openProxy(p *proxied, n int) error {
	l, err := s.publish(p)
	if err != nil {
		return err
	}
	limit := p.Max
	if limit == 0 {
		limit = room(n)
	}
	p.proxy, err = proxy.New(proxy.Config{
		Public: l, Policy: *p.Policy, InFlight: p.InFlight, Departed: s.proxies.lives.departed, Limits: proxy.Limits{Sessions: limit, Moves: spare(n, limit)},
		Dial: p.Dial, Idle: p.Idle, KeepAlive: p.KeepAlive, UserTimeout: p.UserTimeout, HeaderIn: p.HeaderIn, HeaderOut: p.HeaderOut,
		Observe: func(e proxy.Event) { s.proxyEvent(p, e) },
	})
	if err != nil {
		_ = l.Close() // nobody came
		return err
	}
	s.observe(Event{What: EventClaimed, Message: p.Public.String() + " for a proxy"})
	if s.inheritance == nil {
		s.runProxy(p)
	}
	return nil
}

// runProxy accepts clients, or has those that were handed over go on.
func (s *Service) runProxy(p *proxied) {
	s.spawn(func() {
		if err := p.proxy.Run(s.run); err != nil {
			s.tell(func() { s.note(nil, "no more clients are accepted on "+p.Public.String(), err) })
		}
	})
}

// publish listens on the public address, by a claim where there are claims.
func (s *Service) publish(p *proxied) (net.Listener, error) {
	if s.proxies.public == nil {
		l, err := proxy.Listen(s.run, p.Public)
		if err == nil && p.Public.Network != "unix" && p.Public.Port == 0 {
			p.Public.Port = l.Addr().(*net.TCPAddr).Port
		}
		return l, err
	}
	claim, err := s.proxies.public.Claim(s.run, p.Public)
	if err != nil {
		return nil, err
	}
	p.claim, p.Public = claim, claim.Address()
	lane, err := s.publicLane(claim)
	if err != nil {
		return nil, err
	}
	f, err := lane.Dup()
	if err != nil {
		return nil, err
	}
	defer f.Close() // net has its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("upgrader: listen on %s: %w", p.Public, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path is the claim's
	}
	return l, nil
}

// publicLane is the one of a public address: there is no other generation.
func (s *Service) publicLane(c *listener.Claim) (*listener.Lane, error) {
	for _, l := range s.proxies.public.LanesOn(c) {
		if l.Generation() == 1 { // it was handed over
			return l, nil
		}
	}
	return s.proxies.public.Lane(c, 1)
}

// closeProxies gives the public addresses up, once every proxy has ended.
func (s *Service) closeProxies(elsewhere bool) {
	if s.proxies.waited != nil {
		s.proxies.waited.Stop()
	}
	switch {
	case s.proxies.public == nil:
	case elsewhere:
		_ = s.proxies.public.Detach() // another upgrader has the sockets
	default:
		_ = s.proxies.public.Close() // the process ends; the kernel closes what is left
	}
}

// takesOver gives the socket that takes the place of one that the server
// means to bind: a private one where clients come through a proxy.
func (s *Service) takesOver(sock listener.Socket) (listener.Socket, error) {
	for _, p := range s.proxies.all {
		if p.Intercepted() && p.claim != nil && p.claim.Meets(sock) {
			return p.hide(sock)
		}
	}
	return sock, nil
}

// privates are the private addresses by their public ones, for a next upgrader.
func (p *proxies) privates() map[string][]string {
	all := map[string][]string{}
	for _, one := range p.all {
		if one.Intercepted() {
			for _, c := range one.claims() {
				all[one.Public.String()] = append(all[one.Public.String()], dialAddress(c.Address()))
			}
		}
	}
	return all
}

var errNoServer = errors.New("upgrader: nobody listens there yet")

// backend is how g is reached.
func (p *proxied) backend(g *generation) proxy.Backend {
	number := g.number
	return proxy.Backend{Generation: number, Dial: func(ctx context.Context) (net.Conn, error) { return p.dial(ctx, number) }}
}

// dial connects to a generation, and to no other: a lane that was left while
// we connected does not count.
func (p *proxied) dial(ctx context.Context, generation int) (net.Conn, error) {
	claims := p.claims()
	for _, c := range claims {
		for _, l := range p.set.LanesOn(c) {
			if l.Generation() != generation || !l.Steered() {
				continue
			}
			return proxy.Dial(ctx, c.Network(), c.Dial(), l.Steered)
		}
	}
	if p.Intercepted() || len(claims) > 0 {
		return nil, errNoServer
	}
	return proxy.Dial(ctx, p.Backend.Network, dialAddress(p.Backend), nil)
}

// claims are those that lead to the server.
func (p *proxied) claims() []*listener.Claim {
	if p.Intercepted() {
		p.mu.Lock()
		defer p.mu.Unlock()
		return append([]*listener.Claim(nil), p.private...)
	}
	var out []*listener.Claim
	for _, c := range p.set.Claims() {
		if !c.Datagrams() && sameStream(c.Address(), p.Backend) {
			out = append(out, c)
		}
	}
	return out
}

// dialAddress is a as for net.Dial.
func dialAddress(a listener.Address) string {
	if a.Network == "unix" {
		return a.Path
	}
	host := a.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, strconv.Itoa(a.Port))
}

// probeBackends connects to each server that nothing else is known of, until
// it can be, and it is g that is reached: its predecessor may linger on a port
// of before.
func (s *Service) probeBackends(ctx context.Context, g *generation, before *ownPorts) error {
	for _, p := range s.proxies.all {
		if port := uint16(p.Backend.Port); before.has(port) {
			if err := before.awaitTaken(ctx, g.members, port); err != nil {
				return err
			}
		}
		for p.Backend.Network != "" {
			var d net.Dialer
			conn, err := d.DialContext(ctx, p.Backend.Network, dialAddress(p.Backend))
			if err == nil {
				_ = conn.Close() // nothing was said
				break
			}
			if ctx.Err() != nil {
				return err
			}
			pause(ctx)
		}
	}
	return nil
}

// plain reports whether some server is reached at an address that nobody
// claims, nor will when binds of TCP are taken over.
func (p *proxies) plain(intercepts bool) bool {
	for _, one := range p.all {
		if !one.Intercepted() && (!intercepts || one.Backend.Network == "unix") && len(one.claims()) == 0 {
			return true
		}
	}
	return false
}

// room is how many clients each of n proxies may have at a time: each has two
// descriptors, and the service needs some.
func room(n int) int {
	limit := descriptorLimit()
	if limit <= 0 {
		return 0
	}
	reserve := max(64, limit/20)
	return max(1, (limit-reserve)/2/n)
}

// spare is how many clients of each of n proxies may have two servers at a time, which takes a third descriptor: of
// what its clients do not need, half is left to the service.
func spare(n, clients int) int {
	limit := descriptorLimit()
	if limit <= 0 {
		return 0
	}
	return max(8, (limit/n-2*clients)/2)
}

// hide puts a private address in the place of the public one, one of the
// guest's family if there is one here.
func (p *proxied) hide(sock listener.Socket) (listener.Socket, error) {
	loopbacks := []string{"127.0.0.1:0"}
	if sock.Family == syscall.AF_INET6 {
		loopbacks = []string{"[::1]:0", "127.0.0.1:0"}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, spec := range loopbacks {
		at, err := p.privateLocked(spec)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sock.Addr, sock.Zone, sock.Family = at, "", syscall.AF_INET
		if at.Addr().Is6() {
			sock.Family = syscall.AF_INET6
		}
		return sock, nil
	}
	return sock, fmt.Errorf("upgrader: a private address for %s: %w", p.Public, errors.Join(errs...))
}

// privateLocked gives the private address of that family, which all
// generations share.
func (p *proxied) privateLocked(spec string) (netip.AddrPort, error) {
	a, err := listener.ParseAddress(spec)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, c := range p.private {
		if have := c.Address(); have.Host == a.Host {
			return netip.ParseAddrPort(net.JoinHostPort(have.Host, strconv.Itoa(have.Port)))
		}
	}
	c, err := p.set.Claim(p.within, a)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p.private = append(p.private, c)
	return netip.ParseAddrPort(net.JoinHostPort(a.Host, strconv.Itoa(c.Address().Port)))
}
