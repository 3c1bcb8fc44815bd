// The server that the upgrader swaps in the tests: it answers GET with its
// generation, and is asked to quit by the named events.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/windows"

	"github.com/upgrader/upgrader/integration/windows/testdata/segment"
	"github.com/upgrader/upgrader/winevents"
)

func main() {
	own := flag.String("listen", "", "an address to bind by itself, 127.0.0.1:PORT; else the socket is handed over")
	fail := flag.String("fail", "", "a file: as long as it exists, do not start")
	linger := flag.Duration("linger", -1, "how long to stay after the confirmation")
	deaf := flag.Bool("deaf", false, "do not notice being asked")
	name := flag.String("segment", "", "shared memory to count in, opened by its name")
	joined := flag.Bool("attach", false, "shared memory to count in, as the environment has it, under the lease of the bridge page")
	var nf loader
	nf.register()
	flag.Parse()
	if _, err := os.Stat(*fail); *fail != "" && err == nil {
		fmt.Fprintln(os.Stderr, "told to fail")
		os.Exit(3)
	}
	if err := nf.start(); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
	if err := run(*own, memories{name: *name, attach: *joined}, *linger, *deaf); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

type server struct {
	winsock
	listener windows.Handle
	clients  sync.WaitGroup
	quit     chan struct{}
	counted  chan struct{} // closed when nobody counts any more
	stopped  chan struct{} // closed when nobody is accepted any more and all are answered
}

func run(own string, m memories, linger time.Duration, deaf bool) error {
	h, err := socket(own)
	if err != nil {
		return err
	}
	s := &server{winsock: newWinsock(), listener: h, quit: make(chan struct{}), counted: make(chan struct{}), stopped: make(chan struct{})}
	if err := s.blocking(h, false); err != nil {
		return err
	}
	if deaf {
		if err := winevents.SayReady(); err != nil {
			return err
		}
		s.serve()
	}
	if err := m.open(); err != nil {
		return err
	}
	if m.segment != nil {
		go s.count(m.segment)
	}
	asked, err := winevents.NewAsked(winevents.AskedConfig{
		Times: winevents.Times{Linger: linger},
		Stop: func(ctx context.Context, _ winevents.Signal) error {
			close(s.quit)
			select {
			case <-s.stopped:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		Save: func(context.Context, winevents.Stopping) error { return m.save(s.counted) },
	})
	if err != nil {
		return err
	}
	defer asked.Close()
	go s.serve()
	go s.interrupted(m)
	if err := winevents.SayReady(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "serving", os.Getenv("UPGRADER_GENERATION"), release)
	return asked.Run(context.Background())
}

// interrupted ends the process in order when the console tells it to.
func (s *server) interrupted(m memories) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt)
	<-told
	fmt.Fprintln(os.Stderr, "generation", os.Getenv("UPGRADER_GENERATION"), "was told by the console")
	close(s.quit)
	<-s.stopped
	if err := m.save(s.counted); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// count counts until it shall quit.
func (s *server) count(memory *segment.Segment) {
	defer close(s.counted)
	for {
		select {
		case <-s.quit:
			return
		case <-time.After(time.Millisecond):
			memory.Write()
		}
	}
}

// serve accepts until it shall quit. Clients that wait then are left to the
// other processes that have the socket.
func (s *server) serve() {
	defer close(s.stopped)
	for {
		select {
		case <-s.quit:
			_ = windows.Closesocket(s.listener)
			s.clients.Wait()
			return
		default:
		}
		if !s.waiting(s.listener) {
			continue
		}
		c, err := s.acceptOne(s.listener)
		if err != nil {
			continue // another one was faster
		}
		s.clients.Go(func() { s.answer(c) })
	}
}

// answer answers one request, and ends the connection in order.
func (s *server) answer(c windows.Handle) {
	defer windows.Closesocket(c)
	var request strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(request.String(), "\r\n\r\n") {
		n, err := receive(c, buffer)
		if err != nil || n == 0 {
			return
		}
		request.Write(buffer[:n])
	}
	body := fmt.Sprintf("gen=%s pid=%d %s\n", os.Getenv("UPGRADER_GENERATION"), os.Getpid(), release)
	if strings.HasPrefix(request.String(), "GET /die ") {
		os.Exit(7)
	}
	err := send(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body))
	if err != nil && !errors.Is(err, windows.WSAECONNRESET) {
		return
	}
	_ = windows.Shutdown(c, windows.SHUT_WR)
	for { // until the client has gone: a reset would take the answer away
		if n, err := receive(c, buffer); err != nil || n == 0 {
			return
		}
	}
}
