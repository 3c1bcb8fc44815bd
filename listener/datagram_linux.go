package listener

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxDatagram   = 64 << 10
	datagramLinks = 256             // clients of one claim that are relayed at a time
	answersFor    = 5 * time.Second // how long a relayed client is given answers after its last datagram
)

// drainUDPLocked relays what lies in a lane of udp to whoever the claim is steered to. Answers go back from the claim's
// address for some seconds.
func (s *system) drainUDPLocked(l *Lane) error {
	c := l.claim
	if c.links == nil {
		c.links = map[string]*link{}
	}
	// The address that a datagram was sent to is the one to answer from. The guest that could be surprised by the
	// control message is gone.
	level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
	if c.at.family == unix.AF_INET6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	_ = unix.SetsockoptInt(l.fd, level, option, 1) // without: answers come from the route's own address
	buf, oob := make([]byte, maxDatagram), make([]byte, 256)
	for failures := 0; ; {
		n, oobn, _, from, err := unix.Recvmsg(l.fd, buf, oob, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil: // an ICMP error that was queued, or EINTR
			if failures++; failures > 100 {
				return fmt.Errorf("listener: read late datagrams: %w", os.NewSyscallError("recvmsg", err))
			}
			continue
		case from == nil:
			continue
		}
		key := fmt.Sprint(addrOf(from))
		k := c.links[key]
		if k == nil {
			if len(c.links) >= datagramLinks {
				s.note(RescueLost, c, l.gen, fmt.Errorf("listener: relay a datagram: more than %d clients", datagramLinks))
				continue
			}
			conn, err := net.Dial("udp", c.at.dial()) // does not block: a literal address
			if err != nil {
				s.note(RescueLost, c, l.gen, fmt.Errorf("listener: relay a datagram: %w", err))
				continue
			}
			k = &link{conn: conn, client: from, control: answerFrom(oob[:oobn])}
			c.links[key] = k
			s.work.Go(func() { s.answers(c, key, k) })
		}
		k.until = time.Now().Add(answersFor)
		_ = k.conn.SetReadDeadline(k.until) // closed: the write below fails as well
		if _, err := k.conn.Write(buf[:n]); err != nil {
			s.note(RescueLost, c, l.gen, fmt.Errorf("listener: relay a datagram: %w", err))
			continue
		}
		s.note(Rescued, c, l.gen, nil)
	}
}

// link is one client of udp that is relayed.
type link struct {
	conn    net.Conn
	client  unix.Sockaddr
	control []byte // makes an answer leave from the address that was asked
	until   time.Time
}

// answers sends answers back until none has come for a while.
func (s *system) answers(c *Claim, key string, k *link) {
	stop := make(chan struct{})
	defer close(stop)
	s.work.Go(func() {
		select {
		case <-s.ctx.Done():
		case <-stop:
		}
		k.conn.Close()
	})
	buf := make([]byte, maxDatagram)
	for {
		n, err := k.conn.Read(buf)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // nobody has the address for a moment
		}
		s.lock()
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(k.until) {
			s.unlock() // it was asked again meanwhile
			continue
		}
		if err != nil {
			if c.links[key] == k {
				delete(c.links, key)
			}
			s.unlock()
			return
		}
		for _, l := range c.members {
			if l.fd >= 0 { // lanes share the address: any will do
				_, _ = unix.SendmsgN(l.fd, buf[:n], k.control, k.client, unix.MSG_DONTWAIT) // as lossy as the network
				break
			}
		}
		s.unlock()
	}
}

// answerFrom turns the control message of a datagram that came into that of an answer; nil if there was none.
func answerFrom(oob []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			in := (*unix.Inet4Pktinfo)(unsafe.Pointer(&m.Data[0]))
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: in.Addr})
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			in := (*unix.Inet6Pktinfo)(unsafe.Pointer(&m.Data[0]))
			return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: in.Addr})
		}
	}
	return nil
}
