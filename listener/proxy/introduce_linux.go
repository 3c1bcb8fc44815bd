//go:build !goroutines

package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
)

// maxHeader is the longest PROXY header that is read.
const maxHeader = 16 + 4<<10

// introduction is what is known of a client before its session begins.
type introduction struct {
	until time.Time
	got   []byte
}

type addresses struct{ remote, local net.Addr }

func (a addresses) RemoteAddr() net.Addr { return a.remote }
func (a addresses) LocalAddr() net.Addr  { return a.local }

// introduce reads the client's PROXY header, if there may be one, and makes ours; again: that is done.
func (s *session) introduce() verdict {
	h, err := s.header()
	if err == errAgain {
		s.wakeAt(s.intro.until)
		return waits
	}
	var greet []byte
	if err == nil && s.p.config.HeaderOut {
		greet, err = s.greeting(h)
	}
	if err != nil {
		s.p.count.rejected.Add(1)
		s.p.config.Observe(Event{Kind: HeaderRejected, Session: s.id, Err: err})
		s.reset()
		return done
	}
	s.greet, s.entered, s.intro = greet, true, nil
	s.mu.Lock()
	s.ready = true
	s.mu.Unlock()
	s.park(true)
	return again
}

func (s *session) greeting(h *proxyproto.Header) ([]byte, error) {
	a, err := s.ends()
	if err != nil {
		return nil, err
	}
	o, err := newOrigin(a, h)
	if err != nil {
		return nil, err
	}
	return o.format()
}

// header gives that of the client; nil: there is none. What was read past it is carry.
func (s *session) header() (*proxyproto.Header, error) {
	in := s.p.config.HeaderIn
	if in.Mode == HeaderOff {
		return nil, nil
	}
	if s.intro == nil {
		a, err := s.ends()
		if err != nil {
			return nil, err
		}
		if !in.trusts(a.remote) {
			if in.Mode == HeaderOptional {
				return nil, nil
			}
			return nil, errors.New("proxy: header in: not a trusted address")
		}
		s.intro = &introduction{until: time.Now().Add(in.Timeout)}
	}
	var end error
	for end == nil {
		n, state := measureHeader(s.intro.got)
		switch {
		case state == headerWhole:
			h, err := parseHeader(bufio.NewReader(bytes.NewReader(s.intro.got[:n])))
			if err != nil {
				return nil, fmt.Errorf("proxy: header in: %w", err)
			}
			s.carry = s.intro.got[n:]
			return h, nil
		case state == headerNone && in.Mode == HeaderOptional:
			s.carry = s.intro.got
			return nil, nil
		case state == headerNone:
			return nil, fmt.Errorf("proxy: header in: %w", proxyproto.ErrNoProxyProtocol)
		case n > maxHeader:
			return nil, errors.New("proxy: header in: too long")
		}
		var got int
		if got, end = s.client.read(s.loop.buffer); end == nil {
			s.intro.got = append(s.intro.got, s.loop.buffer[:got]...)
		}
	}
	if end == errAgain {
		if time.Now().Before(s.intro.until) {
			return nil, errAgain
		}
		end = os.ErrDeadlineExceeded
	}
	if _, state := measureHeader(s.intro.got); in.Mode == HeaderOptional && state == headerMaybe {
		s.carry = s.intro.got // its end is met again
		return nil, nil
	}
	return nil, fmt.Errorf("proxy: header in: %w", end)
}

// What the first bytes of a client are.
type headerState int

const (
	headerMaybe headerState = iota // nobody knows yet
	headerPart                     // the begin of one
	headerWhole
	headerNone
)

// measureHeader gives the length of the PROXY header that b begins with, as far as it is known (PROXY
// protocol, 2.1 and 2.2).
func measureHeader(b []byte) (int, headerState) {
	const v1, v2 = "PROXY ", "\r\n\r\n\x00\r\nQUIT\n"
	const longest1 = 107
	begins := func(signature string) bool {
		n := min(len(b), len(signature))
		return string(b[:n]) == signature[:n]
	}
	switch {
	case begins(v2) && len(b) < len(v2), begins(v1) && len(b) < len(v1):
		return len(b), headerMaybe
	case begins(v1):
		if n := bytes.IndexByte(b[:min(len(b), longest1)], '\n'); n >= 0 {
			return n + 1, headerWhole
		}
		if len(b) >= longest1 {
			return longest1, headerWhole // its reader says what is wrong with it
		}
		return longest1, headerPart
	case begins(v2):
		if len(b) < 16 {
			return 16, headerPart
		}
		n := 16 + int(b[14])<<8 + int(b[15])
		if len(b) < n {
			return n, headerPart
		}
		return n, headerWhole
	}
	return 0, headerNone
}

// ends of the client's connection.
func (s *session) ends() (addresses, error) {
	remote, err := unix.Getpeername(int(s.client.fd))
	if err != nil {
		return addresses{}, os.NewSyscallError("getpeername", err)
	}
	local, err := unix.Getsockname(int(s.client.fd))
	if err != nil {
		return addresses{}, os.NewSyscallError("getsockname", err)
	}
	return addresses{remote: netAddress(remote), local: netAddress(local)}, nil
}

func netAddress(a unix.Sockaddr) net.Addr {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
	case *unix.SockaddrInet6:
		zone := ""
		if a.ZoneId != 0 {
			if i, err := net.InterfaceByIndex(int(a.ZoneId)); err == nil {
				zone = i.Name
			}
		}
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port, Zone: zone}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: a.Name, Net: "unix"}
	}
	return &net.UnixAddr{Net: "unix"} // no other streams are proxied
}
