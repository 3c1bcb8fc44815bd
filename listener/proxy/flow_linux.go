//go:build !goroutines

package proxy

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// errUnable means: copy, there is no pipe or no splice(2) for these sockets.
var errUnable = errors.New("proxy: no splice")

// bulkLeast is how much a stream brings at once to be worth a pipe.
const bulkLeast = 16 << 10

// flow is one direction of a session: what was taken from its source and not given to its destination
// yet. At rest it holds nothing.
type flow struct {
	waiting []byte  // copied
	pooled  *[]byte // where waiting is, if that comes from the pool
	pipe    *pipe   // nil: none
	bulk    bool    // a stream: the next bytes go through a pipe
	unable  bool    // these sockets cannot be spliced
}

func (f *flow) pending() bool { return len(f.waiting) > 0 || (f.pipe != nil && f.pipe.n > 0) }

// keep b until the destination takes it. Preconditions: nothing is pending, and b fits a buffer of the pool.
func (f *flow) keep(pool *bufferPool, b []byte) {
	f.pooled = pool.get()
	f.waiting = (*f.pooled)[:copy(*f.pooled, b)]
}

// fill takes from a socket into a pipe. Precondition: nothing is pending. It gives io.EOF, errAgain,
// errUnable, or what is wrong with the source.
func (f *flow) fill(from *sock, l *pipes) (int, error) {
	if f.unable {
		return 0, errUnable
	}
	if f.pipe == nil {
		if f.pipe = l.borrow(); f.pipe == nil {
			f.bulk = false // it is tried again
			return 0, errUnable
		}
	}
	n, err := splice(from.fd, f.pipe.w, l.size)
	switch {
	case err == errAgain:
		from.readable = false
	case unspliced(err):
		f.unable, err = true, errUnable
		f.rest(l)
	case err != nil:
	case n == 0:
		return 0, io.EOF
	default:
		f.pipe.n = n
		f.bulk = n >= bulkLeast
	}
	return n, err
}

// drain gives what is pending to a socket: errAgain if not all.
func (f *flow) drain(to *sock, pool *bufferPool, l *pipes) (int, error) {
	if len(f.waiting) > 0 {
		n, err := to.write(f.waiting)
		if f.waiting = f.waiting[n:]; len(f.waiting) == 0 {
			f.release(pool, l)
		}
		return n, err
	}
	total := 0
	for f.pipe.n > 0 {
		to.prompt()
		n, err := splice(f.pipe.r, to.fd, f.pipe.n)
		total += n
		f.pipe.n -= n
		switch {
		case err == errAgain:
			to.writable = false
			return total, err
		case unspliced(err):
			f.unable = true
			b, err := f.take(pool, l)
			if err != nil {
				return total, err
			}
			f.waiting = b
			n, err := f.drain(to, pool, l)
			return total + n, err
		case err != nil:
			return total, err
		case n == 0:
			return total, io.ErrUnexpectedEOF // a pipe that lost its bytes: never
		}
	}
	return total, nil
}

// unspliced is true for the errors of splice(2) that mean: not these descriptors.
func unspliced(err error) bool {
	return err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP
}

// take gives what is pending, and leaves nothing.
func (f *flow) take(pool *bufferPool, l *pipes) ([]byte, error) {
	defer f.release(pool, l)
	if len(f.waiting) > 0 {
		return append([]byte(nil), f.waiting...), nil
	}
	if f.pipe == nil {
		return nil, nil
	}
	b := make([]byte, f.pipe.n)
	for n := 0; n < len(b); {
		m, err := unix.Read(int(f.pipe.r), b[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case m == 0:
			return nil, io.ErrUnexpectedEOF
		default:
			n += m
			f.pipe.n -= m
		}
	}
	return b, nil
}

// rest gives an empty pipe back: the direction is idle, or has become slow.
func (f *flow) rest(l *pipes) {
	if f.pipe != nil && f.pipe.n == 0 {
		l.giveBack(f.pipe)
		f.pipe = nil
	}
}

// release everything, whatever is pending.
func (f *flow) release(pool *bufferPool, l *pipes) {
	f.waiting = nil
	if f.pooled != nil {
		pool.put(f.pooled)
		f.pooled = nil
	}
	if f.pipe != nil {
		l.giveBack(f.pipe)
		f.pipe = nil
	}
}
