package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// streamClient asks over connections: HTTP or lines.
type streamClient struct {
	config   Config
	exchange func(*streamClient, bool) (text string, keep bool, err error)

	conn     net.Conn // nil: none
	in       *bufio.Reader
	used     int // requests on conn
	sequence int // of lines, over all connections
	touched  bool
}

// ask writes one request and reads its answer. A connection that the server
// ended while it was idle is replaced by a new one, as every pool does; lines
// are asked again only where the end was seen before anything was written.
func (s *streamClient) ask() (w answer) {
	deadline := time.Now().Add(s.config.Timeout)
	s.sequence++
	if s.conn != nil && ended(s.conn) {
		w.counts.stale++
		s.close()
	}
	for {
		w.fresh = s.conn == nil
		if w.fresh {
			w.begun = time.Now()
			if w.err = s.connect(deadline, &w); w.err != nil {
				return w
			}
		}
		last := s.config.PerConnection > 0 && s.used+1 >= s.config.PerConnection
		_ = s.conn.SetDeadline(deadline) // fails only on a connection that is closed
		s.touched = false
		text, keep, err := s.exchange(s, last)
		s.used++
		if err == nil {
			w.generation, err = generationIn(text)
		}
		w.err = err
		if err != nil || last || !keep {
			s.close()
		}
		if err != nil && !w.fresh && !s.touched && s.config.Protocol == HTTP && stale(err) {
			w.counts.stale++
			continue
		}
		return w
	}
}

// stale reports whether err can come of a connection that the server had ended
// before it saw the request.
func stale(err error) bool {
	o := classify(err)
	return o == EOF || o == Reset
}

// connect makes the connection. A full queue of a unix socket answers EAGAIN
// at once where a blocking client would wait: so we do.
func (s *streamClient) connect(deadline time.Time, w *answer) error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	for {
		c, err := s.config.Dial(ctx, s.config.Network, s.config.Address)
		if err == nil {
			s.conn, s.in, s.used = c, bufio.NewReaderSize(c, 4096), 0
			w.counts.connections++
			return nil
		}
		if !errors.Is(err, syscall.EAGAIN) || s.config.Network != "unix" || time.Now().After(deadline) {
			return err
		}
		w.counts.queued++
		time.Sleep(time.Millisecond)
	}
}

// close throws the connection away. A reset leaves no TIME_WAIT behind, or
// ports would run out; everything that was to be read has been.
func (s *streamClient) close() {
	if s.conn == nil {
		return
	}
	if t, ok := s.conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // it may be gone already
	}
	_ = s.conn.Close() // as above
	s.conn = nil
}

// exchangeHTTP makes one GET. keep reports whether the server keeps the connection.
func exchangeHTTP(s *streamClient, last bool) (text string, keep bool, err error) {
	closing := ""
	if last {
		closing = "Connection: close\r\n"
	}
	if _, err := io.WriteString(s.conn, "GET "+s.config.Path+" HTTP/1.1\r\nHost: localhost\r\n"+closing+"\r\n"); err != nil {
		return "", false, err
	}
	if _, err := s.in.Peek(1); err != nil {
		return "", false, err
	}
	s.touched = true
	r, err := http.ReadResponse(s.in, nil)
	if err != nil {
		return "", false, err
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close() // nothing of it is left
	if err != nil {
		return "", false, err
	}
	if r.StatusCode != http.StatusOK {
		return "", false, fmt.Errorf("%w: %s: %.100q", errWrong, r.Status, body)
	}
	return string(body), !r.Close, nil
}

// exchangeLine sends a sequence number and wants it back.
func exchangeLine(s *streamClient, _ bool) (text string, keep bool, err error) {
	if _, err := fmt.Fprintf(s.conn, "%d\n", s.sequence); err != nil {
		return "", false, err
	}
	line, err := s.in.ReadString('\n')
	if err != nil {
		if line != "" {
			err = io.ErrUnexpectedEOF
		}
		return "", false, err
	}
	if first, _, _ := strings.Cut(strings.TrimSpace(line), " "); first != strconv.Itoa(s.sequence) {
		return "", false, fmt.Errorf("%w: %.100q for line %d", errWrong, line, s.sequence)
	}
	return line, true, nil
}

// generationIn finds who answered. Servers that do not say are generation 0.
func generationIn(text string) (int, error) {
	_, rest, found := strings.Cut(text, "gen=")
	if !found {
		return 0, nil
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(rest[:end])
	if err != nil {
		return 0, fmt.Errorf("%w: no generation in %.100q", errWrong, text)
	}
	return n, nil
}
