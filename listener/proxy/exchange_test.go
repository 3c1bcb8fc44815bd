package proxy

import (
	"bufio"
	"context"
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

// newHTTP is a generation that answers GEN and the body's length, and its shutdown.
func newHTTP(t *testing.T, gen int, handler http.Handler) (Backend, func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if handler == nil {
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d %s %d", gen, r.URL.Path, n)
		})
	}
	s := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	stop := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.Shutdown(ctx)
		s.Close()
		<-done
	})
	t.Cleanup(stop)
	address := ln.Addr().String()
	return Backend{gen, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}}, stop
}

func TestHTTPClientsOutliveSwaps(t *testing.T) {
	const clients = 20
	p := started(t, Config{Policy: PolicyHTTP1})
	b, stopNow := newHTTP(t, 1, nil)
	p.Serve(b)
	var count atomic.Int64
	var group sync.WaitGroup
	stop := make(chan struct{})
	for i := range clients {
		group.Go(func() {
			transport := &http.Transport{MaxConnsPerHost: 1}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 2 * patience}
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				path := fmt.Sprintf("/%d/%d", i, n)
				body := strings.Repeat("x", n%3*1000)
				var rd io.Reader = strings.NewReader(body)
				if n%2 == 1 {
					rd = struct{ io.Reader }{rd} // chunked
				}
				response, err := client.Post("http://"+p.Addr().String()+path, "text/plain", rd)
				if err != nil {
					t.Errorf("request %s: %v", path, err)
					return
				}
				got, err := io.ReadAll(response.Body)
				response.Body.Close()
				if _, rest, _ := strings.Cut(string(got), " "); err != nil || rest != fmt.Sprintf("%s %d", path, len(body)) {
					t.Errorf("request %s got %q, %v", path, got, err)
					return
				}
				count.Add(1)
				time.Sleep(5 * time.Millisecond) // a pace
			}
		})
	}
	finish := sync.OnceFunc(func() { close(stop); group.Wait() })
	defer finish()
	await(t, "all clients", func() bool { return p.Stats().Accepted == clients && count.Load() >= clients || t.Failed() })
	for gen := 2; gen <= swaps+1; gen++ {
		before := count.Load()
		await(t, "requests between swaps", func() bool { return count.Load() > before+clients || t.Failed() })
		next, stopNext := newHTTP(t, gen, nil)
		o, err := p.Move(context.Background(), next, Settle{Max: patience})
		if err != nil || o.Stayed != 0 {
			t.Fatalf("%+v, %v", o, err)
		}
		stopNow()
		stopNow = stopNext
	}
	finish()
	if s := p.Stats(); s.Accepted != clients || s.InFlight != 0 || s.Reset != 0 || s.Opaque != 0 || s.Moved < swaps*clients*9/10 {
		t.Errorf("%+v", s)
	}
}

// dying reads a request and ends the connection; after it, when alive, answers.
func answering(s *server, c net.Conn) {
	r := bufio.NewReader(c)
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		n, _ := io.Copy(io.Discard, q.Body)
		switch q.URL.Path {
		case "/die":
			if s.gen == 1 {
				return
			}
		case "/cut":
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
			return
		case "/old":
			io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nall\n")
			return
		case "/socket":
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\n\r\n")
			for line := readLine(c); line != ""; line = readLine(c) {
				fmt.Fprintf(c, "%d %s\n", s.gen, line)
			}
			return
		}
		body := fmt.Sprintf("%d %s %d\n", s.gen, q.URL.Path, n)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

func TestHTTPDeath(t *testing.T) {
	setup := func(t *testing.T) (*Proxy, *net.TCPConn) {
		p := started(t, Config{Policy: PolicyHTTP1})
		p.Serve(newServer(t, 1, answering).backend())
		c := connect(t, p)
		if got := request(t, c, "GET /a HTTP/1.1\r\n\r\n"); got != "1 /a 0" {
			t.Fatalf("got %q", got)
		}
		p.Serve(newServer(t, 2, answering).backend()) // the first is going
		return p, c
	}
	t.Run("safe", func(t *testing.T) {
		p, c := setup(t)
		if got := request(t, c, "GET /die HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n"); got != "2 /die 0" {
			t.Errorf("got %q", got)
		}
		if got := response(t, bufio.NewReader(c)); got != "2 /next 0" {
			t.Errorf("got %q", got)
		}
		if s := p.Stats(); s.Replayed != 1 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
	for name, send := range map[string]string{
		"not safe": "POST /die HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
		"no body":  "DELETE /die HTTP/1.1\r\n\r\n",
		"cut off":  "GET /cut HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p, c := setup(t)
			io.WriteString(c, send)
			if _, err := io.Copy(io.Discard, c); err == nil {
				t.Error("the connection ended in good order")
			}
			if s := p.Stats(); s.Replayed != 0 || s.InFlight != 1 || s.Reset != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
	t.Run("until the end", func(t *testing.T) {
		_, c := setup(t)
		io.WriteString(c, "GET /old HTTP/1.1\r\n\r\n")
		if got, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(got), "all\n") {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("tunnel", func(t *testing.T) {
		p, c := setup(t)
		io.WriteString(c, "GET /socket HTTP/1.1\r\n\r\n")
		for hear(t, c) != "\r" {
		}
		if got := ask(t, c, "1"); got != "1 1" {
			t.Errorf("got %q", got)
		}
		o, err := p.Move(t.Context(), newServer(t, 3, answering).backend(), Settle{})
		if err != nil || o.Stayed != 1 {
			t.Errorf("%+v, %v", o, err)
		}
		if got := ask(t, c, "2"); got != "1 2" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("not HTTP", func(t *testing.T) {
		p := started(t, Config{Policy: PolicyHTTP1})
		p.Serve(newServer(t, 1, lines).backend())
		c := connect(t, p)
		if got := ask(t, c, "hello"); got != "1 hello" {
			t.Errorf("got %q", got)
		}
		if n := p.Stats().Opaque; n != 1 {
			t.Errorf("%d were not understood", n)
		}
	})
}

// Requests that come at once are answered in order, by two generations.
func TestHTTPPipelining(t *testing.T) {
	p := started(t, Config{Policy: PolicyHTTP1})
	p.Serve(newServer(t, 1, answering).backend())
	c := connect(t, p)
	r := bufio.NewReader(c)
	for gen := 1; gen <= 3; gen++ {
		for i := range 5 {
			fmt.Fprintf(c, "POST /%d/%d HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", gen, i)
		}
		for i := range 5 {
			if got, want := response(t, r), fmt.Sprintf("%d /%d/%d 3", gen, gen, i); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if o := move(t, p, newServer(t, gen+1, answering)); o.Stayed != 0 {
			t.Errorf("%+v", o)
		}
	}
}

func request(t *testing.T, c net.Conn, send string) string {
	t.Helper()
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	// Only one response comes at a time: the reader takes nothing of the next before it is made.
	return response(t, bufio.NewReaderSize(oneByte{c}, 16))
}

// oneByte reads no further than asked.
type oneByte struct{ io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(1, len(b))]) }

func response(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	q, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Body.Close()
	b, err := io.ReadAll(q.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}
