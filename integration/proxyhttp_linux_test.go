package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// browsers are HTTP/1.1 clients that keep their connections and never look
// whether one is stale: a request that is not answered has failed.
type browsers struct {
	t        *testing.T
	address  string
	stop     chan struct{}
	all      sync.WaitGroup
	answered atomic.Int64
	closed   atomic.Int64 // connections that an answer's Connection: close ended

	mu     sync.Mutex
	failed []error
}

func startBrowsers(t *testing.T, address string, n int, pause time.Duration) *browsers {
	t.Helper()
	b := &browsers{t: t, address: address, stop: make(chan struct{})}
	t.Cleanup(func() { b.end() })
	for i := range n {
		b.all.Go(func() {
			for {
				again, err := b.browse(i, pause)
				if err != nil {
					b.mu.Lock()
					b.failed = append(b.failed, err)
					b.mu.Unlock()
				}
				if !again {
					return
				}
			}
		})
	}
	return b
}

// browse asks on one connection until it must not be used any more.
func (b *browsers) browse(i int, pause time.Duration) (again bool, err error) {
	c, err := net.DialTimeout("tcp", b.address, patience)
	if err != nil {
		return true, err
	}
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for n := 1; ; n++ {
		select {
		case <-b.stop:
			return false, nil
		case <-time.After(pause): // a pace, nothing is waited for
		}
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return true, err
		}
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", b.address); err != nil {
			return true, fmt.Errorf("client %d, request %d: %w", i, n, err)
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return true, fmt.Errorf("client %d, request %d: %w", i, n, err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(body), "pid=") {
			return true, fmt.Errorf("client %d, request %d: %s %q: %w", i, n, r.Status, body, err)
		}
		b.answered.Add(1)
		if r.Close {
			b.closed.Add(1)
			return true, nil
		}
	}
}

func (b *browsers) end() []error {
	select {
	case <-b.stop:
	default:
		close(b.stop)
	}
	b.all.Wait()
	return b.failed
}

// Clients that keep their connections do not notice that an unmodified server
// is swapped: not one request fails.
func TestProxyHTTP(t *testing.T) {
	servers := []foreign{{
		name: "go",
		command: func(_ *testing.T, _ *scratch, port int) []string {
			return []string{guestBinary(), "-http", fmt.Sprintf("127.0.0.1:%d", port)}
		},
	}}
	for _, f := range foreignServers() {
		if f.name == "node" || f.name == "nginx" {
			servers = append(servers, f)
		}
	}
	for _, c := range servers {
		t.Run(c.name, func(t *testing.T) {
			need(t, c.tools...)
			s := newScratch(t, 0)
			p := port(t)
			a := fmt.Sprintf("127.0.0.1:%d", p)
			u := start(t, options{
				scratch: s, command: c.command(t, s, p),
				flags: append([]string{"--proxy", a + "=intercepted?policy=http1", "--settle", "20ms", "--settle-max", "10s", "--probation", "0", "--drain-max", "100"}, c.flags...),
			})
			u.awaitServing()
			b := startBrowsers(t, a, 32, 50*time.Millisecond)
			swaps := amount("INTEGRATION_SWAPS", 50)
			for range swaps {
				u.swap()
			}
			report := u.status().Proxies[0]
			failed := b.end()
			t.Logf("%d swaps: %d requests, %d failed, %d connections were closed by an answer; %+v", swaps, b.answered.Load(), len(failed), b.closed.Load(), report)
			if len(failed) > 0 {
				t.Errorf("%d requests failed: %v", len(failed), failed[0])
			}
			if report.Moved < swaps || b.answered.Load() == 0 {
				t.Errorf("the proxy counts %+v", report)
			}
			u.awaitAlone()
			u.mustShutdown(c.exit)
		})
	}
}
