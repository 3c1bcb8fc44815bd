package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// demoClients is how many clients of each kind drive the demo's server.
const demoClients = 4

// demoLoad drives the demo's server: HTTP requests, each on a new connection,
// and short line sessions. Everything is counted.
type demoLoad struct {
	end  context.CancelFunc
	done sync.WaitGroup

	mu              sync.Mutex
	requests        int64
	failed          int64
	first           error
	last            time.Time
	gap             time.Duration
	marked, markedF int64
	moved           chan struct{} // one slot: something was counted
}

func startLoad(http, lines string) *demoLoad {
	ctx, end := context.WithCancel(context.Background())
	l := &demoLoad{end: end, last: time.Now(), moved: make(chan struct{}, 1)}
	for range demoClients {
		l.done.Go(func() { l.drive(ctx, http, getOnce) })
		l.done.Go(func() { l.drive(ctx, lines, l.echoSession) })
	}
	return l
}

// drive asks again and again until ctx ends.
func (l *demoLoad) drive(ctx context.Context, address string, ask func(string) error) {
	for ctx.Err() == nil {
		l.count(ask(address))
	}
}

func (l *demoLoad) count(err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err != nil {
		l.failed++
		if l.first == nil {
			l.first = err
		}
	} else {
		l.gap = max(l.gap, now.Sub(l.last))
		l.last = now
	}
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

func (l *demoLoad) stop() { l.end(); l.done.Wait() }

// mark begins a stretch that since tells of.
func (l *demoLoad) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marked, l.markedF, l.gap = l.requests, l.failed, 0
}

func (l *demoLoad) since() (requests, failed int64, gap time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests - l.marked, l.failed - l.markedF, l.gap
}

func (l *demoLoad) total() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.requests }

func (l *demoLoad) failures() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.failed }

func (l *demoLoad) firstError() error { l.mu.Lock(); defer l.mu.Unlock(); return l.first }

// progress waits until n more requests were counted.
func (l *demoLoad) progress(ctx context.Context, n int64) error {
	until := l.total() + n
	for l.total() < until {
		select {
		case <-l.moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

const demoTimeout = 30 * time.Second

// getOnce is one HTTP request on a connection of its own.
func getOnce(address string) error {
	conn, err := dialDemo(address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", address); err != nil {
		return err
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return nil
}

// echoSession sends a few lines and wants each back.
func (l *demoLoad) echoSession(address string) error {
	conn, err := dialDemo(address)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for i := range 5 {
		line := "line " + strconv.Itoa(i) + "\n"
		if _, err := io.WriteString(conn, line); err != nil {
			return err
		}
		back, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if back != line {
			return fmt.Errorf("sent %q, got %q", line, back)
		}
	}
	return nil
}

// dialDemo connects. The port is not left in TIME_WAIT, so that a long demo
// does not run out of them.
func dialDemo(address string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", address, demoTimeout)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(demoTimeout)) // a closed connection says so at the next write
	_ = conn.(*net.TCPConn).SetLinger(0)
	return conn, nil
}
