package listener

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

func (s *system) bind(gen int, sock Socket) (*Lane, error) {
	at, ok := endpointOf(sock)
	if !ok {
		return nil, ErrPass
	}
	var free []*Lane // lanes of this bind that the generation was seen to have closed
	for {
		l, ask, err := s.tryBind(gen, at, sock, free)
		if errors.Is(err, unix.EADDRINUSE) && ask == nil {
			return nil, inUse(at, err)
		}
		if ask == nil {
			return l, err
		}
		// A server may bind, close and bind again to see whether an address is free.
		for _, l := range ask {
			if !s.cfg.Held(gen, l.inode) {
				free = append(free, l)
			}
		}
		if free == nil {
			return nil, unix.EADDRINUSE
		}
	}
}

// tryBind binds, or returns the lanes that have to be asked after first: it is done without the lock.
func (s *system) tryBind(gen int, at endpoint, sock Socket, free []*Lane) (l *Lane, ask []*Lane, err error) {
	s.lock()
	defer s.unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	c := s.coveringLocked(at)
	if c == nil {
		l, err = s.bindNewLocked(gen, at, sock)
		return l, nil, err
	}
	if l := c.readyLaneLocked(gen); l != nil {
		return l, nil, s.handLocked(l, sock)
	}
	var handed []*Lane
	for _, l := range c.all {
		if l.gen == gen && l.handed && l.fd >= 0 && !l.retired {
			handed = append(handed, l)
		}
	}
	for _, l := range handed {
		if slices.Contains(free, l) {
			return l, nil, s.handLocked(l, sock)
		}
	}
	if len(handed) > 0 && !sock.ReusePort {
		if free != nil {
			return nil, nil, unix.EADDRINUSE // it was taken meanwhile
		}
		return nil, handed, nil
	}
	l, err = s.newLaneLocked(c, gen, sock.Options, !sock.NonBlocking, true)
	if err != nil {
		return nil, nil, err
	}
	return l, nil, s.handBoundLocked(l)
}

// coveringLocked finds the claim that serves a guest's bind: the same address, else one that the user claimed and
// that overlaps, of the same family if there is one.
func (s *system) coveringLocked(at endpoint) *Claim {
	for _, c := range s.list {
		if c.at == at {
			return c
		}
	}
	var other *Claim
	for _, c := range s.list {
		if !c.explicit || !c.at.overlaps(at) {
			continue
		}
		if c.at.family == at.family {
			return c
		}
		if other == nil {
			other = c
		}
	}
	return other
}

// bindNewLocked makes a claim of a guest's own bind.
func (s *system) bindNewLocked(gen int, at endpoint, sock Socket) (*Lane, error) {
	// A version that binds another address than the one before must get by the old one's lanes; a socket of its own
	// that is in its way is for the kernel to judge.
	others := false
	for _, c := range s.list {
		if !c.at.overlaps(at) {
			continue
		}
		others = true
		for _, l := range c.all {
			if l.gen == gen && !sock.ReusePort {
				others = false
			}
		}
	}
	a := Address{Network: at.network, Host: at.addr.Addr().String(), Port: int(at.addr.Port())}
	switch {
	case at.family == unix.AF_INET:
		a.Network += "4"
	case at.v6only || !at.addr.Addr().IsUnspecified():
		a.Network += "6"
	}
	if at.scope != 0 {
		a.Host = at.addr.Addr().WithZone(sock.Zone).String()
	}
	c := &Claim{address: a, claimSystem: claimSystem{set: s, at: at, serving: nobody}}
	if err := s.openClaimLocked(c); err != nil {
		return nil, err
	}
	l, err := s.newLaneLocked(c, gen, sock.Options, !sock.NonBlocking, others)
	if err != nil {
		s.dropClaimLocked(c)
		return nil, err
	}
	return l, s.handBoundLocked(l)
}

// handBoundLocked hands out a new lane. One of udp has no listen(2) to wait for.
func (s *system) handBoundLocked(l *Lane) error {
	l.handed = true
	if l.claim.at.network != "udp" {
		return nil
	}
	if err := s.joinLocked(l); err != nil {
		s.destroyLocked(l)
		return err
	}
	return nil
}

// handLocked hands out a lane that is there already: it becomes what the guest's socket was.
func (s *system) handLocked(l *Lane, sock Socket) error {
	setOptions(l.fd, sock.Options)
	l.handed, l.options, l.blocking = true, sock.Options, !sock.NonBlocking
	return unix.SetNonblock(l.fd, sock.NonBlocking)
}
