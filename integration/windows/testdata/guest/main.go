// The server that the upgrader swaps in the tests: it answers GET with its
// generation, and is asked to quit by the named events.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
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
	name := flag.String("segment", "", "shared memory to count in")
	flag.Parse()
	if _, err := os.Stat(*fail); *fail != "" && err == nil {
		fmt.Fprintln(os.Stderr, "told to fail")
		os.Exit(3)
	}
	if err := run(*own, *name, *linger, *deaf); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

type server struct {
	winsock
	listener windows.Handle
	clients  sync.WaitGroup
	quit     chan struct{}
	stopped  chan struct{} // closed when nobody is accepted any more and all are answered
}

func run(own, name string, linger time.Duration, deaf bool) error {
	h, err := socket(own)
	if err != nil {
		return err
	}
	s := &server{winsock: newWinsock(), listener: h, quit: make(chan struct{}), stopped: make(chan struct{})}
	if err := s.blocking(h, false); err != nil {
		return err
	}
	if deaf {
		if err := winevents.SayReady(); err != nil {
			return err
		}
		s.serve()
	}
	if name != "" {
		memory, err := segment.Open(name, true)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "found", memory.Counter(), "foreign", memory.Foreign())
		memory.Begin()
		go s.count(memory)
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
	})
	if err != nil {
		return err
	}
	defer asked.Close()
	go s.serve()
	if err := winevents.SayReady(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "serving", os.Getenv("UPGRADER_GENERATION"))
	return asked.Run(context.Background())
}

// count counts until it shall quit.
func (s *server) count(memory *segment.Segment) {
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
	body := fmt.Sprintf("gen=%s pid=%d\n", os.Getenv("UPGRADER_GENERATION"), os.Getpid())
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
