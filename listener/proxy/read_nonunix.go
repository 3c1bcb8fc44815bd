//go:build !unix

package proxy

import "net"

type reader struct{ conn net.Conn }

func (r *reader) init(c net.Conn) { r.conn = c }

func (r *reader) read(pool *bufferPool) (*[]byte, int, error) { return readPlain(r.conn, pool) }
