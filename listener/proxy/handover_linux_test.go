//go:build !goroutines

package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// line is a row of proxies on one public address, each of which goes on where the one before was.
type line struct {
	t      *testing.T
	config Config
	public *os.File
	now    *Proxy
	server *server
}

func newLine(t *testing.T, config Config, s *server) *line {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	config.Public = ln
	l := &line{t: t, config: config, public: f, server: s}
	l.now = started(t, config)
	l.now.Serve(s.backend())
	await(t, "the proxy accepts", func() bool { return l.now.plane.accepts() })
	return l
}

func (x *plane) accepts() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.open
}

// parcels are what a frozen proxy hands over, as another process gets it.
func (l *line) parcels() []Parcel {
	l.t.Helper()
	var all []Parcel
	err := l.now.HandOver(7, func(p Parcel) error {
		text, err := json.Marshal(p)
		if err != nil {
			return err
		}
		var got Parcel
		if err := json.Unmarshal(text, &got); err != nil {
			return err
		}
		for _, fd := range p.Sockets {
			own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return err
			}
			got.Sockets = append(got.Sockets, own)
		}
		all = append(all, got)
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

func (l *line) freeze() {
	l.t.Helper()
	if err := l.now.Freeze(context.Background()); err != nil {
		l.t.Fatal(err)
	}
}

// pass has the next proxy go on.
func (l *line) pass() { l.t.Helper(); l.passTo(l.server.backend()) }

func (l *line) passTo(b Backend) {
	l.t.Helper()
	l.freeze()
	ln, err := net.FileListener(l.public)
	if err != nil {
		l.t.Fatal(err)
	}
	config := l.config
	config.Public = ln
	next, err := New(config)
	if err != nil {
		l.t.Fatal(err)
	}
	next.Serve(b)
	for _, p := range l.parcels() {
		if err := next.Land(p); err != nil {
			l.t.Fatal(err)
		}
	}
	l.now.Leave()
	run(l.t, next)
	l.now = next
	await(l.t, "the next proxy accepts", func() bool { return next.plane.accepts() })
}

// fail hands everything over to somebody who goes without a word.
func (l *line) fail() {
	l.t.Helper()
	l.freeze()
	for _, p := range l.parcels() {
		for _, fd := range p.Sockets {
			_ = unix.Close(fd)
		}
	}
	l.now.Thaw()
}

// Sessions outlive their proxy: none dies, and no line is lost, whether the server is swapped in between,
// and whether an attempt fails.
func TestSessionsOutliveTheirProxy(t *testing.T) {
	const passes = 10
	for _, policy := range []Policy{PolicyDrain, PolicyResume} {
		t.Run(policy.String(), func(t *testing.T) {
			l := newLine(t, Config{Policy: policy, Limits: Limits{Sessions: sessions + 10}}, newServer(t, 1, lines))
			stop := make(chan struct{})
			var count atomic.Int64
			var group sync.WaitGroup
			first := l.now
			for range sessions {
				group.Go(func() {
					if err := talk(first, 5, stop, &count); err != nil {
						t.Errorf("a session died: %v", err)
					}
				})
			}
			finish := sync.OnceFunc(func() { close(stop); group.Wait() })
			defer finish()
			await(t, "all sessions", func() bool {
				s := l.now.Stats()
				return s.Sessions == sessions && s.Parked == 0 && count.Load() >= sessions || t.Failed()
			})
			for n := range passes {
				before := count.Load()
				if n%3 == 2 {
					l.fail()
				}
				l.pass()
				await(t, "lines between passes", func() bool { return count.Load() > before+sessions/10 || t.Failed() })
				if policy == PolicyDrain && n%2 == 1 {
					next := newServer(t, l.server.gen+1, lines)
					if o := move(t, l.now, next); o.Stayed != 0 {
						t.Fatalf("%d sessions were not moved", o.Stayed)
					}
					l.server.leave()
					l.server = next
				}
			}
			s := l.now.Stats()
			finish()
			if s.Accepted != sessions || s.Sessions != sessions || s.Reset != 0 || s.InFlight != 0 {
				t.Errorf("stats: %+v", s)
			}
			if policy == PolicyDrain && s.Moved != sessions*passes/2 {
				t.Errorf("%+v", s)
			}
			// New clients are served, and what ends now ends.
			c := connect(t, l.now)
			if got := ask(t, c, "x"); got != fmt.Sprintf("%d x", l.server.gen) {
				t.Errorf("%q", got)
			}
			_ = c.CloseWrite()
			if how := ended(c); how != "end" {
				t.Errorf("it ended by %q", how)
			}
			await(t, "no session", func() bool { return l.now.Stats().Sessions == 0 })
		})
	}
}

// Bytes that are with the proxy go with the session, in both directions, and so does a half-close.
func TestBytesGoWithTheSession(t *testing.T) {
	const size = 8 << 20
	blob := make([]byte, size)
	for i := range blob {
		blob[i] = byte(i * 7 / 3)
	}
	echo := func(_ *server, c net.Conn) { // all that it gets, once that has ended
		got, err := io.ReadAll(c)
		if err == nil {
			_, _ = c.Write(got)
		}
	}
	l := newLine(t, Config{}, newServer(t, 1, echo))
	c := connect(t, l.now)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(blob)
		if err == nil {
			err = c.CloseWrite()
		}
		sent <- err
	}()
	for range 10 {
		before := l.now.Stats().BytesUp
		l.pass()
		await(t, "bytes", func() bool { n := l.now.Stats().BytesUp; return n > before || n == size })
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for got.Len() < size {
		n, err := io.CopyN(&got, c, size/10)
		if err != nil && got.Len() < size {
			t.Fatalf("after %d bytes and %d: %v", got.Len(), n, err)
		}
		if got.Len() < size {
			l.pass()
		}
	}
	if !bytes.Equal(got.Bytes(), blob) {
		t.Error("other bytes came back")
	}
	if how := ended(c); how != "end" {
		t.Errorf("it ended by %q", how)
	}
}

// An exchange goes on wherever it was cut: in a head, a body, before the answer, in the answer. A client
// that has not said who it is goes on to say it.
func TestExchangeGoesWithTheSession(t *testing.T) {
	began, more := make(chan struct{}, 1), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s ", r.URL.Path, body)
		if r.URL.Path == "/slow" {
			_ = http.NewResponseController(w).Flush()
			began <- struct{}{}
			<-more
			_, _ = io.WriteString(w, "more")
		}
	})
	backend, _ := newHTTP(t, 1, handler)
	l := newLine(t, Config{Policy: PolicyHTTP1, HeaderIn: HeaderIn{Mode: HeaderRequired, Timeout: patience}}, newServer(t, 9, lines))
	l.now.Serve(backend)
	l.server = nil
	pass := func() { l.passTo(backend) }
	c := connect(t, l.now)
	r := bufio.NewReader(c)
	say := func(text string) {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(want string) {
		t.Helper()
		got, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || string(body) != want {
			t.Fatalf("%q, %v; want %q", body, err, want)
		}
	}
	pass()
	say("PROXY TCP4 127.0.0.1 127.0.")
	pass()
	say("0.1 1 2\r\nPOST /one HTTP/1.1\r\nHo")
	pass()
	say("st: a\r\nContent-Length: 10\r\n\r\n01234")
	pass()
	say("56789")
	hears("/one 0123456789 ")
	pass()
	say("GET /two HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	hears("/two  ")
	<-began
	pass()
	pass()
	say("GET /three HTTP/1.1\r\nHost: a\r\n\r\n")
	pass()
	more <- struct{}{}
	hears("/slow  more")
	hears("/three  ")
	if s := l.now.Stats(); s.Opaque != 0 || s.Sessions != 1 || s.Accepted != 1 {
		t.Errorf("%+v", s)
	}
}

// What does not fit is refused, and leaves no descriptor open.
func TestLandRefusesWhatDoesNotFit(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{Public: ln})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	before := descriptors(t)
	for _, in := range []Parcel{
		{Sessions: make([]Session, 1)},
		{Sessions: []Session{{Leg: &Socket{}}}, Sockets: make([]int, 1)},
		{Sessions: []Session{{Next: &Socket{}}}, Sockets: make([]int, 2)},
		{Sessions: []Session{{Outcome: 99}}, Sockets: make([]int, 1)},
		{Sockets: make([]int, 1)},
	} {
		for i := range in.Sockets {
			if in.Sockets[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Land(in); err == nil || !strings.Contains(err.Error(), "do not fit") {
			t.Errorf("%+v landed: %v", in, err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
