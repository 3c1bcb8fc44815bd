package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// times say how long a Server waits for whom.
type times struct {
	request time.Duration // for a request line
	write   time.Duration // for a client to take a line
	alive   time.Duration // between signs of life
	grace   time.Duration // for answers that are due when Run ends
}

func usual() times {
	return times{request: 5 * time.Second, write: 5 * time.Second, alive: 5 * time.Second, grace: time.Second}
}

// socketName is what the socket is called in a state dir.
const socketName = "control.sock"

const (
	acceptPause  = 5 * time.Millisecond // when there are no descriptors left, say; doubling
	acceptPauses = time.Second          // at most
	connections  = 64
)

// Server answers clients of the control socket. It owns the socket.
type Server struct {
	handler  Handler
	services func() []Service // of a fleet; nil: handler is the only one
	dir      string
	listener net.Listener
	info     fs.FileInfo // of the socket's path
	secret   secret      // who shows it may speak
	keep     atomic.Bool
	hung     atomic.Bool // no more connections are taken

	times times
}

// Listen makes the control socket of the state dir, in place of one that an
// upgrader left behind.
//
// Preconditions: the caller holds the lock of dir, so that no other upgrader
// answers there.
func Listen(dir string, h Handler) (*Server, error) {
	l, info, secret, err := listenIn(dir)
	if err != nil {
		return nil, fmt.Errorf("control: listen in %s: %w", dir, err)
	}
	server := newServer(dir, h, l, info)
	server.secret = secret
	return server, nil
}

// Inherit takes the control socket from f, a duplicate that another process
// made by File. It takes ownership of f.
func Inherit(f *os.File, dir string, h Handler) (*Server, error) {
	defer f.Close() // it was duplicated
	l, info, err := inheritIn(f, dir)
	if err != nil {
		return nil, fmt.Errorf("control: inherit the socket of %s: %w", dir, err)
	}
	return newServer(dir, h, l, info), nil
}

func newServer(dir string, h Handler, l net.Listener, info fs.FileInfo) *Server {
	return &Server{handler: h, dir: dir, listener: l, info: info, times: usual()}
}

// File duplicates the socket for another process.
func (s *Server) File() (*os.File, error) {
	l, ok := s.listener.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("control: duplicate the socket: %w", errors.ErrUnsupported)
	}
	f, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("control: duplicate the socket: %w", err)
	}
	return f, nil
}

// Keep makes Run and Close leave the path in place: somebody else answers
// there now.
func (s *Server) Keep() { s.keep.Store(true) }

// HangUp takes no more connections: those that wait are another process's,
// which has the socket too. Run goes on to answer those that were taken.
func (s *Server) HangUp() {
	s.hung.Store(true)
	_ = s.listener.Close() // again when Run ends
}

// Close releases the socket of a Server that was never run.
func (s *Server) Close() error {
	err := s.listener.Close()
	if !s.keep.Load() {
		err = errors.Join(err, removeSocket(s.dir, s.info))
	}
	if err != nil {
		return fmt.Errorf("control: close: %w", err)
	}
	return nil
}

// Run answers until ctx ends and everything that it started has. Answers that
// are due then are still given, for a second: a stop is answered when the
// service has stopped.
func (s *Server) Run(ctx context.Context) error {
	// What is asked may outlive ctx by the grace; streams do not.
	asked, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	closed := context.AfterFunc(ctx, func() { _ = s.listener.Close() }) // again below, where it is told
	defer closed()

	var clients sync.WaitGroup
	slots := make(chan struct{}, connections)
	err := s.accept(ctx, func(conn net.Conn) {
		select {
		case slots <- struct{}{}:
			clients.Go(func() {
				defer func() { <-slots }()
				s.serve(ctx, asked, conn)
			})
		default:
			s.refuse(conn, &Error{CodeBusy, fmt.Sprintf("%d connections are open already: try again", connections)})
		}
	})
	if err == nil {
		<-ctx.Done() // it may have hung up before
	}
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(s.times.grace):
	}
	giveUp()
	<-done
	_ = s.listener.Close() // closed already, or it failed
	if !s.keep.Load() {
		err = errors.Join(err, removeSocket(s.dir, s.info))
	}
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// accept hands on connections, until ctx ends. That
// there are no descriptors left is no reason to end: there will be.
func (s *Server) accept(ctx context.Context, serve func(net.Conn)) error {
	pause := acceptPause
	for {
		conn, err := s.listener.Accept()
		switch {
		case err == nil:
			pause = acceptPause
			serve(conn)
		case ctx.Err() != nil || s.hung.Load():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			pause = min(2*pause, acceptPauses)
		}
	}
}

// refuse answers without having read anything. The line fits the socket's
// buffer, so that nobody waits.
func (s *Server) refuse(conn net.Conn, e *Error) {
	l := lines{conn: conn, patience: s.times.write, left: func() {}}
	_ = l.write(reply{Done: true, Error: e}) // whoever does not take it is gone
	_ = conn.Close()                         // nothing is left to be told
}

// serve answers the one request of conn. Streams end with ctx, all else with
// asked.
func (s *Server) serve(ctx, asked context.Context, conn net.Conn) {
	defer conn.Close() // everything was written, or cannot be
	_ = conn.SetReadDeadline(time.Now().Add(s.times.request))
	unread := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	if err := s.secret.checkPeer(conn); err != nil {
		unread()
		s.refuse(conn, &Error{CodeForbidden, err.Error()})
		return
	}
	q, err := readRequest(conn)
	unread()
	var e *Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		e = &Error{CodeStopping, "the upgrader is stopping"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		e = &Error{CodeBadRequest, fmt.Sprintf("no request came within %v", s.times.request)}
	case errors.Is(err, io.ErrUnexpectedEOF):
		e = &Error{CodeBadRequest, "the request does not end with a newline"}
	case err != nil:
		return // it left
	}
	if q.Do == DoEvents {
		asked = ctx
	}
	asked, left := context.WithCancel(asked)
	defer left()
	l := &lines{conn: conn, patience: s.times.write, left: left}
	if e != nil {
		_ = l.write(reply{Done: true, Error: e}) // it left
		return
	}
	var signs sync.WaitGroup
	defer signs.Wait()
	defer left()
	signs.Go(func() { l.showLife(asked, s.times.alive) })
	_ = l.write(s.answer(asked, q, l)) // it left
}

// answer gives the last line for q.
func (s *Server) answer(ctx context.Context, q Request, l *lines) reply {
	q.Asked = AskedCommand
	last := reply{Done: true}
	services, e := s.chosen(ctx, q)
	switch {
	case e != nil:
		last.Error = e
		return last
	case s.services != nil:
		return s.answerFleet(ctx, q, services, l)
	}
	var err error
	switch q.Do {
	case DoStatus:
		var status Status
		if status, err = s.handler.Status(ctx); err == nil {
			status.fill()
			last.Status = &status
		}
	case DoEvents:
		err = s.handler.Events(ctx, func(e Event) error { return l.write(reply{Event: &e}) })
		if ctx.Err() != nil {
			err = nil // it is how a stream ends
		}
	default:
		var a Answer
		if a, err = s.handler.Do(ctx, q); err == nil {
			last.Verdict, last.Message, last.Snapshots = a.Verdict, a.Message, a.Snapshots
		}
	}
	if err != nil {
		last.Error = toError(err)
	}
	return last
}

// lines writes an answer. A client that does not take a line in time has left.
type lines struct {
	mu       sync.Mutex
	conn     net.Conn
	patience time.Duration // for a line
	left     func()        // called when it has
	err      error         // why
}

func (l *lines) write(r reply) error {
	r.Version = ProtocolVersion
	data, err := json.Marshal(r)
	if err == nil && len(data) >= maxReply {
		err = fmt.Errorf("the answer is longer than %d bytes", maxReply)
	}
	if err != nil {
		if data, err = json.Marshal(reply{Version: ProtocolVersion, Done: true, Error: &Error{CodeFailed, err.Error()}}); err != nil {
			return err
		}
	}
	return l.put(append(data, '\n'))
}

func (l *lines) put(data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.patience)) // fails as the write then does
	if _, l.err = l.conn.Write(data); l.err != nil {
		l.left()
	}
	return l.err
}

// showLife writes empty lines until ctx ends: so the client knows that we
// live, and we that it does.
func (l *lines) showLife(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if l.put([]byte{'\n'}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// removeOwn removes path if it still is the file that info is of.
func removeOwn(path string, info fs.FileInfo) error {
	now, err := os.Lstat(path)
	if err == nil && os.SameFile(now, info) {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
