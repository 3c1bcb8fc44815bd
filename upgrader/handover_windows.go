package upgrader

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/upgrader/launch"
)

// handOver serves the lanes of g to its processes as long as it lives, if the
// systemfd dialect was asked for: each asks for sockets for itself.
func (s *Service) handOver(g *generation, o *launch.Order, lanes []*listener.Lane) error {
	if !slices.ContainsFunc(s.config.Dialects, func(d dialect.Dialect) bool { return d.Name() == dialect.Systemfd }) {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("upgrader: hand sockets over: %w", err)
	}
	secret := newUUID()
	o.Env = append(o.Env, "SYSTEMFD_SOCKET_SERVER="+l.Addr().String(), "SYSTEMFD_SOCKET_SECRET="+secret)
	h := handOver{secret: secret, lanes: lanes}
	s.spawn(func() { h.run(g.run, l) })
	return nil
}

type handOver struct {
	secret string
	lanes  []*listener.Lane
}

func (h handOver) run(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // it was only listened on
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed, or nobody can be told
		}
		h.answer(c)
	}
}

// answer gives the sockets to a process that knows the secret.
func (h handOver) answer(c net.Conn) {
	defer c.Close() // everything was written, or cannot be
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	said, err := io.ReadAll(io.LimitReader(c, 64)) // it ends its sending
	secret, digits, _ := strings.Cut(string(said), "|")
	pid, wrong := strconv.Atoi(digits)
	if err != nil || wrong != nil || subtle.ConstantTimeCompare([]byte(secret), []byte(h.secret)) != 1 {
		return
	}
	h.give(c, pid)
}

func (h handOver) give(to io.Writer, pid int) {
	for _, lane := range h.lanes {
		info, err := lane.ProtocolInfo(pid)
		if err != nil {
			return // the process finds that something is missing
		}
		if _, err := to.Write(unsafe.Slice((*byte)(unsafe.Pointer(info)), unsafe.Sizeof(windows.WSAProtocolInfo{}))); err != nil {
			return
		}
	}
}

// newUUID is a random one (version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
