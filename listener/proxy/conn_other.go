//go:build !linux || goroutines

package proxy

import "net"

// link is one of the two connections of a session.
type link struct {
	net.Conn
	reader reader
}

func newLink(c net.Conn) *link {
	l := &link{Conn: c}
	l.reader.init(c)
	return l
}

// read waits until there is something to read, and only then takes a buffer from the pool, so that an
// idle connection has none. On success the caller gives the buffer back.
func (l *link) read(pool *bufferPool) (*[]byte, int, error) { return l.reader.read(pool) }

// end half-closes: the peer reads the end after all that was written.
func (l *link) end() error {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return l.Conn.Close()
}

// abort closes so that the peer sees a reset, where the transport has one.
func (l *link) abort() {
	if c, ok := l.Conn.(interface{ SetLinger(int) error }); ok {
		_ = c.SetLinger(0) // closed anyway
	}
	_ = l.Conn.Close() // nothing can be done about it
}
