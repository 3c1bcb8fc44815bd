//go:build unix && (!linux || goroutines)

package proxy

import (
	"io"
	"net"
	"syscall"
)

type reader struct {
	conn net.Conn
	raw  syscall.RawConn // nil: not a socket
}

func (r *reader) init(c net.Conn) {
	r.conn = c
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			r.raw = raw
		}
	}
}

func (r *reader) read(pool *bufferPool) (*[]byte, int, error) {
	if r.raw == nil {
		return readPlain(r.conn, pool)
	}
	var buffer *[]byte
	var n int
	var cause error
	err := r.raw.Read(func(fd uintptr) bool {
		buffer = pool.get()
		for {
			n, cause = syscall.Read(int(fd), *buffer)
			if cause != syscall.EINTR {
				break
			}
		}
		if cause == syscall.EAGAIN {
			pool.put(buffer)
			buffer = nil
			return false
		}
		return true
	})
	switch {
	case err != nil: // the wait's: deadline, closed
		if buffer != nil {
			pool.put(buffer)
		}
		return nil, 0, err
	case cause != nil:
		pool.put(buffer)
		return nil, 0, cause
	case n == 0:
		pool.put(buffer)
		return nil, 0, io.EOF
	}
	return buffer, n, nil
}
