package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// unixgramPause is how long a datagram waits before it is tried again that found the queue of who serves full:
// net.unix.max_dgram_qlen, often 10.
const unixgramPause = 5 * time.Millisecond

// leftovers are the datagrams of a lane of unixgram whose generation is gone, on their way to the lane that is steered to. A
// client that has connected its socket goes on sending to the lane that it knows, and takes answers from no other.
type leftovers struct {
	links map[string]*pathLink // clients that are relayed, by name; "": those without one
	next  *datagram            // taken out, and not in the queue of who serves yet
}

func (l *leftovers) waits() bool { return l != nil && l.next != nil }

// datagram is one of a unix socket, with what came beside its bytes.
type datagram struct {
	bytes  []byte
	files  []int       // descriptors, ours to close
	sender *unix.Ucred // only where the guest asked the kernel for it
	from   string      // name of the client's socket, '@' before an abstract one; "": it has none
	taken  time.Time
}

func (d *datagram) close() {
	for _, fd := range d.files {
		unix.Close(fd)
	}
	d.files = nil
}

// receive takes one datagram out of a socket, whole and without waiting; nil when there is none.
func receive(fd int) (*datagram, error) {
	for {
		n, _, err := unix.Recvfrom(fd, nil, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT) // its length
		if err == unix.EINTR {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return nil, nil
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		d := &datagram{bytes: make([]byte, n), taken: time.Now()}
		oob := make([]byte, unix.CmsgSpace(253*4)+unix.CmsgSpace(unix.SizeofUcred)) // SCM_MAX_FD
		n, oobn, _, from, err := unix.Recvmsg(fd, d.bytes, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) || err == unix.EINTR {
			continue // somebody else took it
		}
		if err != nil {
			return nil, os.NewSyscallError("recvmsg", err)
		}
		d.bytes = d.bytes[:n]
		if u, ok := from.(*unix.SockaddrUnix); ok {
			d.from = u.Name
		}
		d.beside(oob[:oobn])
		return d, nil
	}
}

// beside reads the control messages of d.
func (d *datagram) beside(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range messages {
		if files, err := unix.ParseUnixRights(&messages[i]); err == nil {
			d.files = append(d.files, files...)
		} else if sender, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			d.sender = sender
		}
	}
}

// send sends d on from a socket. EAGAIN: the other's queue is full.
func (d *datagram) send(fd int, to unix.Sockaddr) error {
	var oob []byte
	if len(d.files) > 0 {
		oob = unix.UnixRights(d.files...)
	}
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	if d.sender != nil {
		_, err := unix.SendmsgN(fd, d.bytes, append(unix.UnixCredentials(d.sender), oob...), to, flags)
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ESRCH) { // only root may name another process, which has to be there
			return os.NewSyscallError("sendmsg", err)
		}
	}
	_, err := unix.SendmsgN(fd, d.bytes, oob, to, flags)
	return os.NewSyscallError("sendmsg", err)
}

// drainUnixgramLocked relays what lies in a lane to the one that is steered to. What does not fit into its queue waits, and is
// tried again after l.pause, for as long as a connection would be.
func (s *system) drainUnixgramLocked(l *Lane) error {
	if l.left == nil {
		l.left = &leftovers{links: map[string]*pathLink{}}
	}
	for {
		d := l.left.next
		if d == nil {
			var err error
			if d, err = receive(l.fd); err != nil {
				return fmt.Errorf("listener: read late datagrams: %w", err)
			}
			if d == nil {
				return nil
			}
			l.left.next = d
		}
		err := s.relayDatagramLocked(l, d)
		if errors.Is(err, unix.EAGAIN) && time.Since(d.taken) < dialTimeout {
			l.pause = time.Now().Add(unixgramPause)
			return nil
		}
		d.close()
		l.left.next = nil
		if err != nil {
			s.note(RescueLost, l.claim, l.gen, fmt.Errorf("listener: relay a datagram: %w", err))
			continue
		}
		s.note(Rescued, l.claim, l.gen, nil)
	}
}

// relayDatagramLocked puts d into the queue of the lane that is steered to, by that lane's own name: the claimed path may be
// somebody else's for a moment.
func (s *system) relayDatagramLocked(l *Lane, d *datagram) error {
	c := l.claim
	steered := c.steeredLocked()
	if len(steered) == 0 {
		return unix.EAGAIN // there will be one
	}
	k, err := s.pathLinkLocked(l, d.from)
	if err != nil {
		return err
	}
	return k.send(d, c.dir.sockaddr(steered[0].name))
}

// pathLink is a socket of ours in a client's place.
type pathLink struct {
	conn  *net.UnixConn
	until time.Time // answers are passed on so long
}

// pathLinkLocked finds or makes the link of the client that is called so. It has a name of its own, so that it can be answered,
// if the client has one.
func (s *system) pathLinkLocked(l *Lane, client string) (*pathLink, error) {
	until := time.Now().Add(answersFor)
	if k := l.left.links[client]; k != nil {
		k.until = until
		return k, k.conn.SetReadDeadline(until)
	}
	if len(l.left.links) >= datagramLinks {
		return nil, fmt.Errorf("more than %d clients", datagramLinks)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "link")
	defer f.Close() // conn has its own duplicate
	if client != "" {
		if err := unix.Bind(fd, &unix.SockaddrUnix{}); err != nil { // autobind, unix(7): an abstract name that is free
			return nil, os.NewSyscallError("bind", err)
		}
	}
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("a %T", conn)
	}
	k := &pathLink{conn: u, until: until}
	_ = k.conn.SetReadDeadline(until) // it is new
	l.left.links[client] = k
	s.work.Go(func() { s.passAnswers(l, client, k) })
	return k, nil
}

// passAnswers gives a client the answers of whoever serves it now, until none has come for a while.
func (s *system) passAnswers(l *Lane, client string, k *pathLink) {
	defer k.conn.Close()
	defer context.AfterFunc(s.ctx, func() { k.conn.Close() })()
	for {
		d, err := k.receive()
		s.lock()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(k.until) {
				s.unlock()
				continue
			}
			delete(l.left.links, client)
			s.unlock()
			return
		}
		s.unlock()
		s.answerClient(l, client, k, d)
		d.close()
	}
}

func (k *pathLink) send(d *datagram, to unix.Sockaddr) error {
	raw, err := k.conn.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = d.send(int(fd), to) }); cerr != nil {
		return cerr
	}
	return err
}

// receive waits for a datagram.
func (k *pathLink) receive() (d *datagram, err error) {
	raw, err := k.conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		d, failed = receive(int(fd))
		return d != nil || failed != nil
	})
	if err == nil {
		err = failed
	}
	return d, err
}

// answerClient sends from the lane that the client knows as long as that is there: a connected socket takes answers from
// nobody else. A client that does not read for long loses its answer.
func (s *system) answerClient(l *Lane, client string, k *pathLink, d *datagram) {
	to := &unix.SockaddrUnix{Name: client}
	for time.Since(d.taken) < answersFor && s.ctx.Err() == nil {
		s.lock()
		fd, err := l.fd, error(nil)
		if fd >= 0 {
			err = d.send(fd, to)
		}
		s.unlock()
		if fd < 0 {
			err = k.send(d, to)
		}
		if !errors.Is(err, unix.EAGAIN) {
			return // sent, or the client has left
		}
		select {
		case <-time.After(unixgramPause):
		case <-s.ctx.Done():
		}
	}
}

// hush lets nothing more come: whoever still sends to the lane is told so by an error, and connects anew.
func (l *Lane) hush() {
	if !l.deaf {
		l.deaf = true
		_ = unix.Shutdown(l.fd, unix.SHUT_RD) // an open socket of unix can always be
	}
}

// lastWordsLocked relays what came to a lane that is about to be closed, as far as that is possible at once.
func (s *system) lastWordsLocked(l *Lane) {
	l.hush()
	if err := s.drainUnixgramLocked(l); err != nil {
		s.note(RescueLost, l.claim, l.gen, err)
	}
	if d := l.left.next; d != nil {
		d.close()
		l.left.next = nil
		s.note(RescueLost, l.claim, l.gen, errors.New("listener: relay a datagram: nobody takes it"))
	}
}
