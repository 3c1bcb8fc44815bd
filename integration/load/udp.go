package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// udpClient asks by datagrams from one socket, or from a new one every
// PerConnection requests.
type udpClient struct {
	config   Config
	conn     net.Conn
	used     int
	sequence int
	buffer   [2048]byte
}

// ask sends until it is answered: a datagram may be lost, and each one sent
// again is counted.
func (u *udpClient) ask() (w answer) {
	deadline := time.Now().Add(u.config.Timeout)
	u.sequence++
	w.fresh, w.begun = true, time.Now() // each datagram finds its own way
	if u.conn == nil {
		if u.conn, w.err = u.config.Dial(context.Background(), u.config.Network, u.config.Address); w.err != nil {
			u.conn = nil
			return w
		}
		u.used = 0
		w.counts.connections++
	}
	u.used++
	defer func() {
		if w.err != nil || u.config.PerConnection > 0 && u.used >= u.config.PerConnection {
			u.close()
		}
	}()
	prefix := append(strconv.AppendInt(nil, int64(u.sequence), 10), ' ')
	for {
		if _, w.err = fmt.Fprintf(u.conn, "%d\n", u.sequence); w.err != nil {
			return w
		}
		wait := time.Now().Add(u.config.Resend)
		if wait.After(deadline) {
			wait = deadline
		}
		_ = u.conn.SetReadDeadline(wait) // fails only on a socket that is closed
		text, err := u.read(prefix, &w)
		if err == nil {
			w.generation, w.err = generationIn(text)
			return w
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(deadline) {
			w.err = err
			return w
		}
		w.counts.resent++
	}
}

// read gives the answer that begins with prefix. Answers to earlier requests
// are late duplicates of what was sent again.
func (u *udpClient) read(prefix []byte, w *answer) (string, error) {
	for {
		n, err := u.conn.Read(u.buffer[:])
		if err != nil {
			return "", err
		}
		got := u.buffer[:n]
		if bytes.HasPrefix(got, prefix) {
			return string(got), nil
		}
		first, _, _ := bytes.Cut(got, []byte(" "))
		if n, err := strconv.Atoi(string(first)); err != nil || n > u.sequence {
			return "", fmt.Errorf("%w: %.100q for datagram %d", errWrong, got, u.sequence)
		}
		w.counts.duplicates++
	}
}

func (u *udpClient) close() {
	if u.conn != nil {
		_ = u.conn.Close() // nothing is in it
		u.conn = nil
	}
}
