//go:build !linux || goroutines

package proxy

import "net"

// readPlain reads with a buffer held while it waits.
func readPlain(c net.Conn, pool *bufferPool) (*[]byte, int, error) {
	buffer := pool.get()
	n, err := c.Read(*buffer)
	if n > 0 {
		return buffer, n, nil // an error comes again
	}
	pool.put(buffer)
	return nil, 0, err
}
