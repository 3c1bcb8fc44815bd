package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// hammered is what a closed loop found.
type hammered struct {
	perSecond float64
	p999      float64 // milliseconds
	failed    int
}

// hammer asks a server as fast as it answers, for so long. It does as little
// as a client can: what is measured is the server's side.
func hammer(address string, clients int, kept bool, d time.Duration) hammered {
	var mu sync.Mutex
	var out hammered
	all := newHistogram()
	start := time.Now()
	end := start.Add(d)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			h, failed := newHistogram(), 0
			strike := striker{address: address, kept: kept}
			defer strike.close()
			for now := time.Now(); now.Before(end); {
				err := strike.once()
				then := time.Now()
				if err != nil {
					failed++
					strike.close()
				} else {
					_ = h.RecordValue(then.Sub(now).Microseconds()) // a request takes no minute
				}
				now = then
			}
			mu.Lock()
			defer mu.Unlock()
			all.Merge(h)
			out.failed += failed
		})
	}
	wg.Wait()
	out.perSecond = float64(all.TotalCount()) / time.Since(start).Seconds()
	out.p999 = float64(all.ValueAtQuantile(99.9)) / 1000
	return out
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
}

// striker is one client.
type striker struct {
	address string
	kept    bool
	conn    net.Conn
	in      *bufio.Reader
}

func (s *striker) once() error {
	request := "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	if !s.kept {
		request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
		defer s.close()
	}
	if s.conn == nil {
		c, err := net.DialTimeout("tcp", s.address, patience)
		if err != nil {
			return err
		}
		s.conn = c
		if s.in == nil {
			s.in = bufio.NewReaderSize(c, 2048)
		}
		s.in.Reset(c)
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(s.conn, request); err != nil {
		return err
	}
	_, keep, err := readAnswer(s.in)
	if err == nil && s.kept && !keep {
		s.close()
	}
	return err
}

func (s *striker) close() {
	if s.conn != nil {
		hangUp(s.conn)
		s.conn = nil
	}
}

// readAnswer reads one answer with a Content-Length, and tells whether its
// connection is kept.
func readAnswer(in *bufio.Reader) (body []byte, keep bool, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, false, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return nil, false, fmt.Errorf("answered %.40q", line)
	}
	length := -1
	for keep = true; ; {
		if line, err = in.ReadSlice('\n'); err != nil {
			return nil, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		line = bytes.ToLower(line)
		if rest, ok := bytes.CutPrefix(line, []byte("content-length:")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(rest))); err != nil {
				return nil, false, err
			}
		}
		if string(line) == "connection: close" {
			keep = false
		}
	}
	if length < 0 {
		return nil, false, errors.New("an answer without a length")
	}
	body = make([]byte, length)
	_, err = io.ReadFull(in, body)
	return body, keep, err
}
