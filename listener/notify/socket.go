package notify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

// Socket is where the processes of one generation say READY=1 and the like.
// Allow and Observe are set before Run, or never.
type Socket struct {
	// Allow decides whose messages count. It is asked before anything of a
	// message is looked at. nil: everybody's who can write to the socket.
	Allow func(pid int, uid uint32) bool

	// Observe is told, in Run's goroutine, why a message was ignored. nil:
	// nobody is.
	Observe func(error)

	path string
	info fs.FileInfo
	conn *net.UnixConn
}

// Listen makes the socket at path, mode 0600. Its directory must be one that
// nobody but its owner can write to: who could replace the socket would be
// told everything. A socket that was left there is removed. path has at most
// 107 bytes, for guests must be able to name it.
func Listen(path string) (*Socket, error) {
	conn, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("notify: listen on %s: %w", path, err)
	}
	return &Socket{path: path, info: stat(path), conn: conn}, nil
}

// Adopt makes a Socket of a descriptor that File of another process gave. It
// takes f.
func Adopt(f *os.File, path string) (*Socket, error) {
	defer f.Close() // net has its own
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("notify: adopt %s: %w", path, err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("notify: adopt %s: not a unix socket", path)
	}
	return &Socket{path: path, info: stat(path), conn: conn}, nil
}

// stat is what is at path; nil when that cannot be told.
func stat(path string) fs.FileInfo {
	info, _ := os.Lstat(path)
	return info
}

// Path is what NOTIFY_SOCKET says.
func (s *Socket) Path() string { return s.path }

// File duplicates the descriptor, for Adopt in another process. The caller
// closes it.
func (s *Socket) File() (*os.File, error) {
	f, err := s.conn.File()
	if err != nil {
		return nil, fmt.Errorf("notify: duplicate %s: %w", s.path, err)
	}
	return f, nil
}

// Run gives every message to handle, one after the other, until ctx ends or
// Close, and returns nil then. A barrier is answered when all messages before
// it were handled, so handle must not leave its work to others.
func (s *Socket) Run(ctx context.Context, handle func(Message)) error {
	_ = s.conn.SetReadDeadline(time.Time{}) // an error: it is closed, as receive will say
	defer context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })()
	r := newReceiver(s.conn)
	for {
		m, err := r.receive(s.Allow)
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			m.closeFiles()
			return nil // what was received before is handled: another Run goes on behind it
		}
		if bad, ok := errors.AsType[ignored](err); ok {
			m.closeFiles()
			if s.Observe != nil {
				s.Observe(fmt.Errorf("notify: ignored: %w", bad.error))
			}
			continue
		}
		if err != nil {
			m.closeFiles()
			return fmt.Errorf("notify: receive on %s: %w", s.path, err)
		}
		if !m.barrier {
			handle(m)
		}
		m.closeFiles()
	}
}

// ignored is the error of one message; the next may be right.
type ignored struct{ error }

func (i ignored) Unwrap() error { return i.error }

// Release ends Run and leaves the socket where it is, for the process that
// File was handed to.
func (s *Socket) Release() error {
	if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("notify: release: %w", err)
	}
	return nil
}

// Close ends Run and removes the socket, if what is at its path still is it.
func (s *Socket) Close() error {
	// Before the descriptor goes: afterwards the inode number may come back.
	if now := stat(s.path); now != nil && s.info != nil && os.SameFile(now, s.info) {
		_ = os.Remove(s.path) // the directory is swept at the next start
	}
	if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("notify: close: %w", err)
	}
	return nil
}
