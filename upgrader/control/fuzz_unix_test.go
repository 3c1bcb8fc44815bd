//go:build unix

package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// watched is a service that counts what it was asked to do.
type watched struct{ done atomic.Int32 }

func (w *watched) Status(context.Context) (Status, error) {
	return Status{Name: "web", ID: "1", Generations: []Generation{{State: GenerationServing}}}, nil
}

func (w *watched) Do(context.Context, Request) (Answer, error) {
	w.done.Add(1)
	return Answer{Verdict: &Verdict{Verdict: Committed}}, nil
}

func (w *watched) Events(_ context.Context, emit func(Event) error) error {
	return emit(Event{What: "ready"})
}

// oneConn is a listener of one connection.
type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// Whatever bytes come to the API, it answers them as HTTP or closes, and does
// something only for a request that could not come of another site.
func FuzzHTTPBytes(f *testing.F) {
	for _, s := range []string{
		"GET /restart HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST /restart?Server=web&wait=probation HTTP/1.1\r\nHost: 127.0.0.1:6011\r\nOrigin: http://127.0.0.1:6011\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 4\r\n\r\nID=1",
		"GET /restartall HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"GET /stop?now=1 HTTP/1.1\r\nHost: [::1]\r\nReferer: http://evil.example/\r\nSec-Fetch-Site: cross-site\r\n\r\n",
		"GET /status?Zone=13 HTTP/1.0\r\n\r\nGET /rollback HTTP/1.1\r\nHost: localhost.\r\n\r\n",
		"POST /reload HTTP/1.1\r\nHost: 127.1.2.3\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n5\r\nID=%31\r\n0\r\n\r\n",
		"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET //restart HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w := &watched{}
		l := &oneConn{make(chan net.Conn, 1), make(chan struct{})}
		h := &HTTP{config: HTTPConfig{Services: func() []Service { return []Service{{Server: "web", ID: "1", Zone: "13", Handler: w}} }}, listener: l, loopback: true, alive: time.Hour, write: patience}
		ctx, cancel := context.WithCancel(context.Background())
		server := h.server(ctx, ctx)
		over := make(chan struct{})
		go func() { defer close(over); _ = server.Serve(l) }()
		ours, theirs := socketPair(t)
		l.conn <- theirs
		go func() {
			_, _ = ours.Write(data) // it may have closed
			_ = ours.CloseWrite()   // as a client that has said all
		}()
		answers := bufio.NewReader(ours)
		for {
			r, err := http.ReadResponse(answers, nil)
			if err != nil {
				break // closed
			}
			body, err := io.ReadAll(r.Body)
			// The answer to a HEAD has no body: what follows it is the next answer.
			if err == nil && !bytes.Contains(data, []byte("HEAD")) && r.Header.Get("Content-Type") == "application/json" && !json.Valid(body) {
				t.Errorf("%q was answered with %q", data, body)
			}
		}
		_ = ours.Close()
		cancel()
		_ = server.Close()
		<-over
		h.requests.close()
		if n := int(w.done.Load()); n > allowed(data) {
			t.Errorf("%q made %d things happen, %d were allowed", data, n, allowed(data))
		}
	})
}

// allowed counts the requests in data that may do something, by rules written
// down a second time.
func allowed(data []byte) (n int) {
	r := bufio.NewReader(bytes.NewReader(data))
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return n
		}
		host := q.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
		own := host == "localhost" || err == nil && ip.Unmap().IsLoopback()
		for _, key := range []string{"Origin", "Referer"} {
			for _, v := range q.Header.Values(key) {
				u, err := url.Parse(v)
				own = own && err == nil && strings.EqualFold(u.Host, q.Host)
			}
		}
		site := q.Header.Get("Sec-Fetch-Site")
		own = own && (site == "" || site == "same-origin" || site == "none")
		paths := []string{"/restart", "/restartall", "/rollback", "/reload", "/stop"}
		if own && (q.Method == "GET" || q.Method == "POST") && slices.Contains(paths, q.URL.Path) {
			n++
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return n
		}
	}
}

// Whatever bytes come to the control socket, of one service or of a fleet, each
// connection gets one last line, and something is done only for a request that
// asks for it.
func FuzzSocket(f *testing.F) {
	for _, s := range []string{
		`{"v":1,"do":"status"}`, `{"v":1,"do":"restart","args":{"no_wait":true}}`, `{"v":1,"do":"restart","services":["web"]}`,
		`{"v":1,"do":"stop","args":{"now":true},"all":true}`, `{"v":1,"do":"events"}`, `{"v":1,"do":"snapshot","args":{"snapshot":"restore","number":3}}`,
		`{"v":2,"do":"status"}`, `{"v":1,"do":"restart","services":["1","nobody"]}`, "\n\n", "{", "null", `{"v":1,"do":"rollback","all":true} {}`,
	} {
		f.Add([]byte(s+"\n"), len(s)%2 == 0)
	}
	f.Fuzz(func(t *testing.T, data []byte, several bool) {
		w := &watched{}
		s := newServer("", w, nil, nil)
		if several {
			s.services = func() []Service {
				return []Service{{Server: "web", ID: "1", Handler: w}, {Server: "api", Handler: w}}
			}
		}
		ours, theirs := socketPair(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			s.serve(context.Background(), context.Background(), theirs)
		}()
		_, _ = ours.Write(data) // it may have answered already
		_ = ours.CloseWrite()
		answer, _ := io.ReadAll(ours) // it may have closed with bytes unread
		_ = ours.Close()
		<-served
		done := 0
		for line := range bytes.Lines(answer) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			var p reply
			if err := json.Unmarshal(line, &p); err != nil || p.Version != ProtocolVersion {
				t.Errorf("%q was answered with %q", data, line)
			}
			if p.Done {
				done++
			}
		}
		if done > 1 || done == 0 && len(bytes.TrimSpace(data)) > 0 && bytes.ContainsRune(data, '\n') && len(data) < maxRequest {
			t.Errorf("%q got %d last lines: %q", data, done, answer)
		}
		if n := w.done.Load(); n > 2 || n > 0 && !bytes.Contains(data, []byte(`"do"`)) && !bytes.ContainsAny(data, "\\dD") {
			t.Errorf("%q made %d things happen", data, n)
		}
	})
}

// socketPair is two ends of a unix stream.
func socketPair(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		syscall.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), "socket pair")
		c, err := net.FileConn(file)
		_ = file.Close() // net has its own
		if err != nil {
			t.Fatal(err)
		}
		conn, ok := c.(*net.UnixConn)
		if !ok {
			t.Fatal(errors.ErrUnsupported)
		}
		ends[i] = conn
	}
	return ends[0], ends[1]
}
