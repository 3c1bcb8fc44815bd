//go:build !linux

package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// errSteering says what only Linux has.
var errSteering = errors.New("listener: supported on Linux only")

// system is a Set of shared sockets: every lane of a claim is the same one, and whoever accepts is served.
type system struct {
	cfg    Config
	mu     sync.Mutex
	closed bool
	list   []*Claim
}

type claimSystem struct {
	net    string
	addr   string
	socket socket
	close  func() error
	all    []*Lane
}

type laneSystem struct {
	gen int
}

func newSystem(c Config) *system { return &system{cfg: c} }

func (c *claimSystem) network() string     { return c.net }
func (c *claimSystem) dial() string        { return c.addr }
func (l *laneSystem) generation() int      { return l.gen }
func (l *laneSystem) inodeNumber() uint64  { return 0 }
func (l *laneSystem) cookieNumber() uint64 { return 0 }

func (s *system) claim(ctx context.Context, a Address) (*Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	c := &Claim{address: a, explicit: true}
	if err := c.open(ctx); err != nil {
		return nil, fmt.Errorf("listener: claim %s: %w", a, err)
	}
	s.list = append(s.list, c)
	return c, nil
}

func (c *Claim) setPort(addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return // the net package's own addresses have one
	}
	if n, err := strconv.Atoi(port); err == nil {
		c.address.Port = n
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	c.addr = net.JoinHostPort(host, port)
}

func (s *system) lane(c *Claim, gen int) (*Lane, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	for _, l := range c.all {
		if l.gen == gen {
			return l, nil
		}
	}
	l := &Lane{claim: c, laneSystem: laneSystem{gen: gen}}
	c.all = append(c.all, l)
	return l, nil
}

func (s *system) bind(int, Socket) (*Lane, error) { return nil, ErrPass }
func (s *system) listen(*Lane) error              { return nil }

func (s *system) prepare(gen int) error {
	for _, c := range s.claims() {
		if _, err := s.lane(c, gen); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) steer(gen int) error {
	if len(s.lanes(gen)) == 0 {
		return ErrNoLane
	}
	return nil
}

// share cannot be: whoever accepts is served.
func (s *system) share(int, int) error {
	return fmt.Errorf("listener: share an address: %w: %w", errors.ErrUnsupported, errSteering)
}

// settle has nothing to look at: the lanes of all generations are one socket.
func (s *system) settle(ctx context.Context, gen int, o SettleOptions) (Settled, error) {
	start := time.Now()
	if len(s.lanes(gen)) == 0 {
		return Settled{Quiet: true}, nil
	}
	t := time.NewTimer(o.Quiet)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return Settled{Waited: time.Since(start)}, ctx.Err()
	case <-t.C:
		return Settled{Quiet: true, Waited: time.Since(start)}, nil
	}
}

func (s *system) retire(gen int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.list {
		c.all = slices.DeleteFunc(c.all, func(l *Lane) bool { return l.gen == gen })
	}
}

func (s *system) abandon(gen int) { s.retire(gen) }

func (s *system) refuse() error {
	var errs []error
	for _, c := range s.claims() {
		if err := c.refuse(); err != nil {
			errs = append(errs, fmt.Errorf("listener: refuse clients of %s: %w", c, err))
		}
	}
	return errors.Join(errs...)
}

func (s *system) accept() error {
	var errs []error
	for _, c := range s.claims() {
		if err := c.accept(); err != nil {
			errs = append(errs, fmt.Errorf("listener: accept clients of %s again: %w", c, err))
		}
	}
	return errors.Join(errs...)
}

func (s *system) relisten(int) error { return nil }

func (s *system) lanes(gen int) []*Lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Lane
	for _, c := range s.list {
		for _, l := range c.all {
			if l.gen == gen {
				out = append(out, l)
			}
		}
	}
	return out
}

func (s *system) claims() []*Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

func (s *system) release(c *Claim) error {
	return fmt.Errorf("listener: release %s: it was claimed by the user", c)
}

func (s *system) state() State { return State{} }

func (s *system) adopt(State, int, []*os.File) error {
	return fmt.Errorf("listener: adopt lanes: %w", errSteering)
}

func (s *system) take(int, []*os.File) error {
	return fmt.Errorf("listener: take sockets: %w: %w", errors.ErrUnsupported, errSteering)
}

func (s *system) adoptFiles(State, []*os.File) error {
	return fmt.Errorf("listener: adopt lanes: %w", errSteering)
}

func (s *system) detach() error {
	for _, c := range s.claims() {
		c.leave()
	}
	return s.close()
}

func (s *system) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, c := range s.list {
		errs = append(errs, c.close())
	}
	s.list = nil
	return errors.Join(errs...)
}

func (s *system) lanesOn(c *Claim) []*Lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(c.all)
}

// isSteered holds for every lane: all are one socket.
func (l *laneSystem) isSteered() bool { return true }

// share is none.
func (l *Lane) sharePercent() int { return 0 }

// probe cannot be sent to one generation: whoever accepts would answer.
func (s *system) probe(context.Context, int) error {
	return fmt.Errorf("listener: probe a lane: %w", errSteering)
}

// dialLane dials: all lanes of a claim are one socket.
func (s *system) dialLane(ctx context.Context, _ int, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// Sockets that are shared are as they are: nothing is done to them behind a caller's back.
func (s *system) freeze()                       {}
func (s *system) thaw() error                   { return nil }
func (s *system) relayed(context.Context) error { return nil }

func (s *system) generations() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []int
	for _, c := range s.list {
		for _, l := range c.all {
			if l.gen != 0 {
				all = append(all, l.gen)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// load is not known here.
func (s *system) load(*Claim) (Load, error) { return Load{InFlight: -1}, nil }

// meets nothing: no bind of a guest is taken over.
func (c *claimSystem) meets(Socket) bool { return false }
