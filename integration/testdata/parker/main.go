// Command parker is a server whose connections outlive it without a hop: it
// answers each line with itself, and when it is asked to quit it parks every
// connection with the upgrader, and what it had read of an unfinished line in a
// memfd beside them. The next one goes on there.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/listener"
)

// server has the connections by the names that they are parked under.
type server struct {
	early bool
	lane  *net.TCPListener

	mu   sync.Mutex
	open map[string]*connection
	all  sync.WaitGroup
}

type connection struct {
	*net.TCPConn
	name string
	rest []byte // read and not answered: less than a line, when nobody reads
}

func main() {
	f := flag.NewFlagSet("parker", flag.ExitOnError)
	early := f.Bool("early", false, "park each connection when it is accepted")
	_ = f.Parse(os.Args[1:]) // exits by itself
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	s := &server{early: *early, open: map[string]*connection{}}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	lane, err := net.FileListener(os.NewFile(3, "lane"))
	fail(err)
	s.lane = lane.(*net.TCPListener)
	fail(s.resume(names[1:]))
	go s.accept()
	<-term
	fail(s.park())
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "parker:", err)
		os.Exit(3)
	}
}

// resume goes on where the predecessor was.
func (s *server) resume(names []string) error {
	rests := map[string][]byte{}
	if files, err := listener.Parked("rests"); err != nil {
		return err
	} else if len(files) > 0 {
		_, _ = files[len(files)-1].Seek(0, io.SeekStart) // it is a file
		if err := json.NewDecoder(files[len(files)-1]).Decode(&rests); err != nil {
			return err
		}
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "client-") {
			continue
		}
		files, err := listener.Parked(name)
		if err != nil {
			return err
		}
		for _, f := range files {
			c, err := net.FileConn(f)
			_ = f.Close() // FileConn has its own
			if err != nil {
				return err
			}
			s.begin(&connection{TCPConn: c.(*net.TCPConn), name: name, rest: rests[name]})
		}
	}
	return nil
}

func (s *server) accept() {
	for {
		c, err := s.lane.AcceptTCP()
		if err != nil {
			return
		}
		n := &connection{TCPConn: c, name: "client-" + strings.ReplaceAll(c.RemoteAddr().String(), ":", "-")}
		if s.early {
			fail(listener.Park(n.name, c))
		}
		s.begin(n)
	}
}

func (s *server) begin(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c.name] = c
	s.all.Go(func() {
		err := c.talk()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // it is parked
		}
		_ = listener.Unpark(c.name) // else the client would not see our end
		_ = c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c.name)
	})
}

// talk answers lines until the client leaves, or reading is ended.
func (c *connection) talk() error {
	buffer := make([]byte, 4096)
	for {
		for {
			line, rest, whole := bytes.Cut(c.rest, []byte("\n"))
			if !whole {
				break
			}
			if _, err := fmt.Fprintf(c, "%s %s\n", line, os.Getenv("UPGRADER_GENERATION")); err != nil {
				return err
			}
			c.rest = append([]byte(nil), rest...)
		}
		n, err := c.Read(buffer)
		c.rest = append(c.rest, buffer[:n]...)
		if err != nil {
			return err
		}
	}
}

// park stops reading, and parks everything.
func (s *server) park() error {
	_ = s.lane.SetDeadline(time.Unix(1, 0)) // ends accept
	s.mu.Lock()
	for _, c := range s.open {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // ended already
	}
	s.mu.Unlock()
	s.all.Wait()
	rests := map[string][]byte{}
	for name, c := range s.open {
		if err := listener.Park(name, c); err != nil {
			return err
		}
		rests[name] = c.rest
	}
	fd, err := unix.MemfdCreate("rests", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "rests")
	if err := json.NewEncoder(f).Encode(rests); err != nil {
		return err
	}
	if err := listener.Unpark("rests"); err != nil { // the predecessor's
		return err
	}
	return listener.Park("rests", f)
}
