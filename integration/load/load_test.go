package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve gives every connection on a new listener to handle, and joins all when
// the test ends.
func serve(t *testing.T, network, address string, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer func() { _ = c.Close() }()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

func echo(c net.Conn) {
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%s gen=7 pid=1\n", strings.TrimSpace(line))
	}
}

func httpServer(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, "gen=7 pid=1\n")
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return l.Addr().String()
}

func start(t *testing.T, c Config) *Load {
	t.Helper()
	l, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

func TestEveryRequestIsAccountedFor(t *testing.T) {
	dir := t.TempDir()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var packetServer sync.WaitGroup
	packetServer.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(fmt.Appendf(nil, "%s gen=7 pid=1\n", strings.TrimSpace(string(b[:n]))), from)
		}
	})
	t.Cleanup(func() { _ = packets.Close(); packetServer.Wait() })

	tcp := httpServer(t, "tcp", "127.0.0.1:0")
	unix := httpServer(t, "unix", filepath.Join(dir, "h"))
	lines := serve(t, "tcp", "127.0.0.1:0", echo)
	unixLines := serve(t, "unix", filepath.Join(dir, "l"), echo)
	const n = 300
	for _, c := range []struct {
		name        string
		config      Config
		connections int // 0: at most one for each client
	}{
		{"http, new connections", Config{Address: tcp, PerConnection: 1}, n},
		{"http, kept", Config{Address: tcp}, 0},
		{"http, open loop", Config{Address: tcp, Rate: 2000}, 0},
		{"http, unix", Config{Network: "unix", Address: unix, PerConnection: 1}, n},
		{"lines", Config{Protocol: Lines, Address: lines}, 0},
		{"lines, unix", Config{Protocol: Lines, Network: "unix", Address: unixLines}, 0},
		{"udp", Config{Protocol: UDP, Address: packets.LocalAddr().String()}, 0},
		{"udp, new sockets", Config{Protocol: UDP, Address: packets.LocalAddr().String(), PerConnection: 1}, n},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Limit, c.config.Clients = n, 4
			r := start(t, c.config).Wait()
			if r.Requests != n || r.Outcomes[OK] != n || r.Generations[7] != n || r.Failed() != 0 || r.Misrouted != 0 {
				t.Errorf("not %d good answers of generation 7: %v", n, r)
			}
			if c.connections != 0 && r.Connections != c.connections || c.connections == 0 && r.Connections > 4 {
				t.Errorf("%d connections", r.Connections)
			}
			if r.Latency.TotalCount() != n {
				t.Errorf("%d latencies", r.Latency.TotalCount())
			}
		})
	}
}

func TestWhatGoesWrongHasAName(t *testing.T) {
	request := func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
	}
	for _, c := range []struct {
		name   string
		config Config
		want   Outcome
	}{
		{"refused", Config{Address: "127.0.0.1:1"}, Refused},
		{"refused, unix", Config{Network: "unix", Address: filepath.Join(t.TempDir(), "none")}, Refused},
		{"reset", Config{Protocol: Lines, Address: serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			request(c)
			_ = c.(*net.TCPConn).SetLinger(0)
		})}, Reset},
		{"ended", Config{Protocol: Lines, Address: serve(t, "tcp", "127.0.0.1:0", request)}, EOF},
		{"ended within a line", Config{Protocol: Lines, Address: serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			request(c)
			fmt.Fprint(c, "1")
		})}, EOF},
		{"silent", Config{Protocol: Lines, Timeout: 200 * time.Millisecond, Address: serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
		})}, Timeout},
		{"another sequence number", Config{Protocol: Lines, Address: serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			request(c)
			fmt.Fprint(c, "99 gen=1\n")
		})}, Wrong},
		{"another status", Config{Address: httpServer(t, "tcp", "127.0.0.1:0"), Path: "/missing"}, Wrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Limit = 1
			r := start(t, c.config).Wait()
			if r.Requests != 1 || r.Outcomes[c.want] != 1 || len(r.Errors) != 1 {
				t.Errorf("want one %s, have %v", c.want, r)
			}
		})
	}
}

func TestAServerThatEndsIdleConnectionsIsNoFailure(t *testing.T) {
	address := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		in := bufio.NewReader(c)
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ngen=1")
	})
	r := start(t, Config{Address: address, Limit: 50}).Wait()
	if r.Outcomes[OK] != 50 || r.Stale != 49 || r.Connections != 50 {
		t.Errorf("want 50 good answers, 49 of them after a stale connection: %v", r)
	}
}

func TestADatagramThatIsLostIsSentAgain(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() {
		b := make([]byte, 100)
		for n := 0; ; n++ {
			length, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n == 0 {
				continue // lost
			}
			reply := fmt.Appendf(nil, "%s gen=1\n", strings.TrimSpace(string(b[:length])))
			_, _ = c.WriteTo(reply, from)
			_, _ = c.WriteTo(reply, from) // and a duplicate each
		}
	})
	t.Cleanup(func() { _ = c.Close(); server.Wait() })
	r := start(t, Config{Protocol: UDP, Address: c.LocalAddr().String(), Limit: 3, Resend: 100 * time.Millisecond}).Wait()
	if r.Outcomes[OK] != 3 || r.Resent < 1 || r.Duplicates < 2 {
		t.Errorf("want 3 good answers, a datagram sent again and 2 duplicates: %v", r)
	}
}

func TestStopAccountsForWhatIsUnderWay(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	address := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		once.Do(func() { close(arrived) })
		<-release
		fmt.Fprint(c, "1 gen=1\n")
	})
	l := start(t, Config{Protocol: Lines, Address: address})
	<-arrived
	l.stop()
	close(release)
	if r := l.Stop(); r.Requests != 1 || r.Outcomes[OK] != 1 {
		t.Errorf("want the one request, answered: %v", r)
	}
}

func TestAwaitMore(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l := start(t, Config{Address: httpServer(t, "tcp", "127.0.0.1:0")})
	before := l.Now().Outcomes[OK]
	if err := l.AwaitMore(ctx, 10); err != nil {
		t.Fatal(err)
	}
	if got := l.Now().Outcomes[OK]; got < before+10 {
		t.Errorf("%d after %d", got, before)
	}
	cancel()
	if err := l.Await(ctx, func(Result) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("Await: %v", err)
	}
}

func TestAccount(t *testing.T) {
	base := time.Unix(1000, 0)
	at := func(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }
	a := newAccount(base)
	for _, w := range []struct {
		generation, begun, done int
		fresh                   bool
	}{
		{1, 0, 10, true},
		{1, 15, 40, true}, // begun before 2 was seen
		{2, 20, 30, true},
		{1, 31, 50, true},  // misrouted
		{1, 31, 60, false}, // a kept connection may stay with its generation
		{2, 70, 160, true},
	} {
		a.add(answer{generation: w.generation, fresh: w.fresh, begun: at(w.begun), intended: at(w.begun)}, at(w.done))
	}
	r := a.result(at(200))
	if r.Misrouted != 1 || r.LongestGap != 100*time.Millisecond || r.Requests != 6 || r.Generations[1] != 4 || r.Took != 200*time.Millisecond {
		t.Errorf("have %v", r)
	}
	if !strings.Contains(r.String(), "misrouted 1") {
		t.Errorf("the account does not say it: %v", r)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{}, {Address: "x", Protocol: "smtp"}, {Address: "x", Rate: -1}} {
		if _, err := Start(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
