package upgrader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/upgrader/upgrader/listener/proxy"
	"github.com/upgrader/upgrader/upgrader/self"
)

// handedParcel says what a parcel has: a part of a proxy, or of the store.
type handedParcel struct {
	Proxy  string             `json:"proxy,omitempty"` // by its public address
	Part   proxy.Parcel       `json:"part"`
	First  bool               `json:"first,omitempty"` // of the store: what came of it before is out of date
	Parked []rememberedParked `json:"parked,omitempty"`
}

// freezeTime is how long a proxy may take to finish what it is doing.
const freezeTime = 5 * time.Second

// pass hands over, once the heir is ready, what we work with until the very
// end: the proxies' sessions, and what is parked. From here on nothing moves in
// them, until the heir is in charge or the attempt has failed. It is for
// goroutines.
func (s *Service) pass(ctx context.Context, send self.Send) error {
	if err := s.hush(); err != nil {
		return err
	}
	if err := s.freezeProxies(ctx); err != nil {
		return err
	}
	for _, p := range s.proxies.all {
		err := p.proxy.HandOver(self.SocketsMost/3, func(part proxy.Parcel) error {
			return sendParcel(send, handedParcel{Proxy: p.Public.String(), Part: part}, part.Sockets)
		})
		if err != nil {
			return fmt.Errorf("hand over the connections of %s: %w", p.Public, err)
		}
	}
	return s.passStore(send)
}

func sendParcel(send self.Send, h handedParcel, sockets []int) error {
	state, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return send(self.Parcel{State: state, Sockets: sockets})
}

// freezeProxies freezes all at once. After an error some may be frozen.
func (s *Service) freezeProxies(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, freezeTime)
	defer cancel()
	errs := make([]error, len(s.proxies.all))
	var all sync.WaitGroup
	for i, p := range s.proxies.all {
		all.Go(func() { errs[i] = p.proxy.Freeze(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// thawProxies lets the connections go on here. It may be called whether they
// were frozen or not.
func (s *Service) thawProxies() {
	for _, p := range s.proxies.all {
		p.proxy.Thaw()
	}
}

// leaveProxies leaves the connections to the heir.
func (s *Service) leaveProxies() {
	s.eachProxy(func(p *proxied) { p.proxy.Leave() })
}

// passStore hands over what is parked.
func (s *Service) passStore(send self.Send) error {
	if s.store == nil {
		return nil
	}
	entries, err := s.store.Duplicate()
	if err != nil {
		return err
	}
	defer func() {
		for _, e := range entries {
			_ = e.File.Close() // a duplicate
		}
	}()
	h, sockets := handedParcel{First: true}, []int(nil)
	for i := 0; ; i++ {
		if i == len(entries) || len(sockets) == self.SocketsMost {
			if err := sendParcel(send, h, sockets); err != nil {
				return fmt.Errorf("hand over what is parked: %w", err)
			}
			h, sockets = handedParcel{}, nil
		}
		if i == len(entries) {
			return nil
		}
		fd, err := number(entries[i].File)
		if err != nil {
			return err
		}
		h.Parked = append(h.Parked, rememberedParked{Name: entries[i].Name, Poll: entries[i].Poll})
		sockets = append(sockets, fd)
	}
}

// number of a descriptor, whose mode stays as it is. It is good until f is
// closed.
func number(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = raw.Control(func(h uintptr) { fd = int(h) })
	return fd, err
}

// land takes a parcel. It is for goroutines, before we are in charge.
func (s *Service) land(parcel self.Parcel) error {
	var h handedParcel
	if err := json.Unmarshal(parcel.State, &h); err != nil {
		return fmt.Errorf("a parcel is not understood: %w", err)
	}
	if h.Proxy == "" {
		return s.landParked(h, parcel.Sockets)
	}
	for _, p := range s.proxies.all {
		if p.Public.String() == h.Proxy {
			h.Part.Sockets = parcel.Sockets
			return p.proxy.Land(h.Part)
		}
	}
	return fmt.Errorf("there is no proxy on %s here", h.Proxy)
}

func (s *Service) landParked(h handedParcel, sockets []int) error {
	if s.store == nil && len(sockets) == 0 {
		return nil
	}
	if s.store == nil || len(sockets) != len(h.Parked) {
		return fmt.Errorf("%d parked descriptors cannot be kept here", len(h.Parked))
	}
	if h.First {
		for _, e := range s.store.List() {
			s.store.Remove(e.Name)
		}
	}
	var errs []error
	for i, p := range h.Parked {
		errs = append(errs, s.store.Add(p.Name, p.Poll, os.NewFile(uintptr(sockets[i]), "parked")))
	}
	return errors.Join(errs...)
}

// takeParked puts what was parked when the old upgrader began into the store:
// our generation may ask for it.
func (s *Service) takeParked(in *self.Inheritance, h *handed) error {
	if s.store == nil && len(h.Parked) > 0 {
		return fmt.Errorf("upgrader: %d parked descriptors cannot be kept: the store is off", len(h.Parked))
	}
	for _, p := range h.Parked {
		f := in.File("parked")
		if f == nil {
			return errors.New("upgrader: what is parked did not come whole")
		}
		if err := s.store.Add(p.Name, p.Poll, f); err != nil {
			return err
		}
	}
	return nil
}

// takeProxies lets the clients that were handed over go on, and takes new ones.
func (s *Service) takeProxies() {
	if s.proxies.public != nil {
		if err := s.proxies.public.Thaw(); err != nil {
			s.note(nil, "the lanes of the proxies are not all as they should be", err)
		}
	}
	for _, p := range s.proxies.all {
		s.runProxy(p)
	}
}
