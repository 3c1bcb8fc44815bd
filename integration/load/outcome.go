package load

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// Outcome is what became of one request.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Refused Outcome = "refused" // nobody had the address
	Reset   Outcome = "reset"   // the connection was thrown away
	EOF     Outcome = "eof"     // the connection was ended without an answer, or within one
	Timeout Outcome = "timeout" // no answer in time
	Wrong   Outcome = "wrong"   // an answer, but not to this request: another status, another sequence number
	Other   Outcome = "other"   // anything else
)

// Failures are all but OK.
func Failures() []Outcome { return []Outcome{Refused, Reset, EOF, Timeout, Wrong, Other} }

// errWrong is what an answer that cannot be right wraps.
var errWrong = errors.New("wrong answer")

// classify gives the outcome of a request that ended with err.
func classify(err error) Outcome {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var timeout net.Error
	switch {
	case err == nil:
		return OK
	case is(errWrong):
		return Wrong
	case is(syscall.ECONNREFUSED, syscall.ENOENT, syscall.Errno(10061)): // WSAECONNREFUSED; no other system has such a number
		return Refused
	case is(syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, syscall.Errno(10054), syscall.Errno(10053)): // WSAECONNRESET, WSAECONNABORTED
		return Reset
	case is(io.EOF, io.ErrUnexpectedEOF):
		return EOF
	case is(os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	}
	return Other
}
