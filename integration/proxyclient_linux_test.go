package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What clients do: one leaves without a word, one ends its direction and wants
// its answers, and many do not read. The memory stays bounded.
func TestProxyClients(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--proxy", a + "=intercepted", "--probation", "0", "--settle", "20ms", "--stop-timeout", "2m"},
		command: []string{guestBinary(), "-lines", a, "-drain", "-1s"},
	})
	u.awaitServing()
	gone := connect(t, "tcp", a)
	mustAsk(t, []*session{gone}, "first", 1)
	_ = gone.Conn.(*net.TCPConn).SetLinger(0) // it is open
	_ = gone.Close()
	u.awaitProxy("who left has left", func(p proxyReport) bool { return p.Accepted == 1 && p.Connections == 0 })

	const lines = 2000
	half := connect(t, "tcp", a)
	go func() {
		for n := range lines {
			if _, err := fmt.Fprintf(half, "line %d\n", n); err != nil {
				return // its answer tells
			}
		}
		_ = half.Conn.(*net.TCPConn).CloseWrite() // its answers tell
	}()
	for n := range lines {
		if _, err := half.answer(fmt.Sprintf("line %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := half.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v", err)
	}

	before := resident(t, u.pid())
	lazy := connectMany(t, a, 20)
	sent := make([]int, len(lazy))
	var all sync.WaitGroup
	for i, s := range lazy {
		all.Go(func() { // until nothing more fits anywhere
			line := strings.Repeat("x", 1000)
			for {
				_ = s.SetWriteDeadline(time.Now().Add(time.Second)) // it is open
				n, err := fmt.Fprintf(s, "%s\n", line)
				if err != nil {
					if n > 0 { // the rest follows below
						sent[i]++
						_ = s.SetWriteDeadline(time.Time{}) // it is open
						go func() { _, _ = fmt.Fprintf(s, "%s\n", line[n:]) }()
					}
					return
				}
				sent[i]++
			}
		})
	}
	all.Wait()
	if grown := resident(t, u.pid()) - before; grown > 64<<20 {
		t.Errorf("the upgrader grew by %d MB for %d clients that do not read", grown>>20, len(lazy))
	}
	u.swap() // those that are not quiet do not hinder it
	for i, s := range lazy {
		all.Go(func() {
			for n := range sent[i] {
				if _, err := s.answer(strings.Repeat("x", 1000)); err != nil {
					t.Errorf("client %d, answer %d of %d: %v", i, n, sent[i], err)
					return
				}
			}
		})
	}
	all.Wait()
	for _, s := range append(lazy, half) {
		_ = s.Close() // the servers wait for that
	}
	u.awaitAlone()
	u.mustCleanShutdown()
}

// resident is how much memory a process has, in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// Many clients come at once. As many as there is room for are served, and stay
// over a swap; the others wait until some have left, and none is refused.
func TestProxyMany(t *testing.T) {
	clients := amount("INTEGRATION_CLIENTS", 2000)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	clients = min(clients, int(limit.Max)/2)
	seats := clients * 95 / 100
	a := address(t)
	u := start(t, options{
		flags:   []string{"--proxy", fmt.Sprintf("%s=intercepted?max=%d", a, seats), "--probation", "0", "--settle", "20ms", "--settle-max", "60s"},
		command: []string{guestBinary(), "-lines", a, "-drain", "0s"},
	})
	u.awaitServing()
	before := len(descriptors(u.pid()))
	all := make([]*session, clients)
	var group sync.WaitGroup
	defer func() {
		for _, s := range all {
			if s != nil {
				_ = s.Close()
			}
		}
		group.Wait()
	}()
	for from := range 100 {
		group.Go(func() {
			for i := from; i < clients; i += 100 {
				c, err := net.DialTimeout("tcp", a, patience)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					continue
				}
				_ = c.SetDeadline(time.Now().Add(4 * patience)) // it is open
				all[i] = &session{c, bufio.NewReader(c)}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	answered := make(chan int, clients)
	ask := func(generation int) {
		for i, s := range all {
			if s != nil {
				group.Go(func() {
					if got, err := s.ask("hello"); err != nil || got != generation {
						t.Errorf("client %d: generation %d, %v, want %d", i, got, err, generation)
					}
					answered <- i
				})
			}
		}
	}
	ask(1)
	var first []int
	for range seats {
		first = append(first, <-answered)
	}
	u.awaitProxy("all seats are taken", func(p proxyReport) bool { return p.Connections == seats })
	if n := len(descriptors(u.pid())) - before; n > 2*seats+20 {
		t.Errorf("%d descriptors for %d clients", n, seats)
	}
	for _, i := range first[:clients-seats] {
		_ = all[i].Close()
		all[i] = nil
	}
	for range clients - seats {
		<-answered
	}
	u.swap()
	// Those that a loaded machine does not move within settle-max go on when the old server leaves them.
	u.awaitProxy("all are at the successor", func(p proxyReport) bool { return p.Moved+p.Resumed == seats })
	ask(2)
	for range seats {
		<-answered
	}
	p := u.status().Proxies[0]
	if p.Accepted != clients || p.Connections != seats || p.InFlight != 0 || p.Reset != 0 {
		t.Errorf("the proxy counts %+v", p)
	}
	t.Logf("%d clients, %d at a time: %+v", clients, seats, p)
	u.awaitAlone()
	u.mustCleanShutdown()
}

// With few descriptors clients wait for their turn, and none is refused or
// reset; a swap goes on beside them.
func TestProxyDescriptors(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	u := start(t, options{
		scratch: s,
		binary:  s.write(t, "few", "#!/bin/sh\nulimit -n 160\nexec "+upgraderBinary()+" \"$@\"\n", 0o755),
		flags:   []string{"--proxy", a + "=intercepted", "--probation", "0", "--settle", "20ms"},
		command: []string{guestBinary(), "-lines", a},
	})
	u.awaitServing()
	all := connectMany(t, a, 10)
	mustAsk(t, all, "first", 1)
	more := connectMany(t, a, 200)
	var group sync.WaitGroup
	for i, s := range more {
		group.Go(func() {
			if _, err := s.ask("more"); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
			_ = s.Close() // the next one's turn
		})
	}
	u.swap()
	group.Wait()
	mustAsk(t, all, "then", 2)
	if p := u.status().Proxies[0]; p.Accepted != 210 || p.Reset != 0 || p.InFlight != 0 {
		t.Errorf("the proxy counts %+v", p)
	}
	u.awaitAlone()
	u.mustCleanShutdown()
}

// The limit of connections makes clients wait, not fail; idle ones are ended.
func TestProxyLimits(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--proxy", a + "=intercepted?max=2", "--proxy-idle", "2s", "--probation", "0"},
		command: []string{guestBinary(), "-lines", a},
	})
	u.awaitServing()
	all := connectMany(t, a, 3)
	mustAsk(t, all[:2], "first", 1)
	mustAsk(t, all[2:], "in its turn", 1) // once the others were idle for too long
	u.awaitProxy("all were idle", func(p proxyReport) bool { return p.Idle == 3 && p.Connections == 0 })
	u.mustCleanShutdown()
}

// An upgrader that is killed takes the proxy's clients with it; its server goes
// on, and the next upgrader's clients find it.
func TestProxyAfterKill(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--proxy", a + "=intercepted", "--probation", "0", "--settle", "20ms"},
		command: []string{guestBinary(), "-lines", a},
	})
	u.awaitServing()
	mustAsk(t, connectMany(t, a, 1), "first", 1)
	u.kill()
	if c, err := net.Dial("tcp", a); err == nil {
		_ = c.Close() // nobody should be there
		t.Error("somebody accepts where nobody serves")
	}
	u = u.again()
	u.awaitGenerationServing(2)
	mustAsk(t, connectMany(t, a, 1), "second", 2)
	u.awaitAlone()
	u.mustCleanShutdown()
}
