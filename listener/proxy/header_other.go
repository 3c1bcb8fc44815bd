//go:build !linux || goroutines

package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pires/go-proxyproto"
)

// readHeader reads what c may or must send first. rest is what was read past it.
func readHeader(c net.Conn, in HeaderIn) (h *proxyproto.Header, rest []byte, err error) {
	if in.Mode == HeaderOff {
		return nil, nil, nil
	}
	if !in.trusts(c.RemoteAddr()) {
		if in.Mode == HeaderOptional {
			return nil, nil, nil
		}
		return nil, nil, errors.New("proxy: header in: not a trusted address")
	}
	if err := c.SetReadDeadline(time.Now().Add(in.Timeout)); err != nil {
		return nil, nil, fmt.Errorf("proxy: header in: %w", err)
	}
	counted := &countingReader{reader: c}
	r := bufio.NewReaderSize(counted, 512)
	h, err = parseHeader(r)
	untouched := counted.n == r.Buffered() // nothing was taken from what was read
	if in.Mode == HeaderOptional && untouched && (errors.Is(err, proxyproto.ErrNoProxyProtocol) || timeout(err)) {
		err = nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("proxy: header in: %w", err)
	}
	if n := r.Buffered(); n > 0 {
		b, _ := r.Peek(n) // they are there
		rest = append(rest, b...)
	}
	return h, rest, nil
}

type countingReader struct {
	reader io.Reader
	n      int
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.reader.Read(b)
	c.n += n
	return n, err
}
