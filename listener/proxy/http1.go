package proxy

import (
	"bytes"
	"errors"
	"fmt"
)

const (
	maxLine = 16 << 10 // of a head, and of a chunk's size
	maxHead = 64 << 10
)

// framer follows the messages of one direction of an HTTP/1.1 connection (RFC 9112). It changes nothing
// and keeps nothing but the line that is not complete yet. Whatever two readers could understand
// differently is an error.
type framer struct {
	response bool

	step   step
	line   []byte // the start of an incomplete line
	head   int    // bytes of head so far
	left   int64  // of the body or the chunk
	facts  facts
	length int64 // Content-Length; -1: none
	coded  bool  // Transfer-Encoding is there
	chunks bool  // its last coding is chunked
}

// facts of the message that is being followed; those of a response need the request's.
type facts struct {
	head    bool // HEAD was asked
	connect bool // CONNECT was asked
	safe    bool // GET, HEAD, OPTIONS
	body    bool // has a body
	status  int
	tunnel  bool // no more messages: 101, or CONNECT was granted
}

type step int

const (
	stepStart step = iota // nothing of the message was seen
	stepFirst             // in its first line
	stepField
	stepBody
	stepChunkSize
	stepChunk
	stepChunkEnd
	stepTrailer
	stepUntilEnd // a response that the end of the connection ends
)

var errFraming = errors.New("proxy: http")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errFraming, fmt.Sprintf(format, args...))
}

// between is true between messages.
func (f *framer) between() bool { return f.step == stepStart }

// feed takes bytes up to the end of the message, and says whether they reach it.
func (f *framer) feed(b []byte) (n int, done bool, err error) {
	for n < len(b) {
		rest := b[n:]
		switch f.step {
		case stepUntilEnd:
			return len(b), false, nil
		case stepBody, stepChunk:
			k := int64(len(rest))
			if k > f.left {
				k = f.left
			}
			f.left -= k
			n += int(k)
			if f.left > 0 {
				return n, false, nil
			}
			if f.step == stepBody {
				f.next()
				return n, true, nil
			}
			f.step = stepChunkEnd
			continue
		case stepStart:
			f.step = stepFirst
		}
		line, k, err := f.cut(rest)
		n += k
		if err != nil {
			return n, false, err
		}
		if line == nil {
			return n, false, nil
		}
		done, err := f.take(line)
		f.line = f.line[:0]
		if err != nil {
			return n, false, err
		}
		if done {
			f.next()
			return n, true, nil
		}
	}
	return n, false, nil
}

// next gets ready for the next message; the facts of the one that ended stay until its first line.
func (f *framer) next() {
	f.step, f.head, f.length, f.coded, f.chunks = stepStart, 0, -1, false, false
	if cap(f.line) > 1024 {
		f.line = nil
	}
}

// cut gives a whole line without its CRLF; nil: it is not complete.
func (f *framer) cut(b []byte) ([]byte, int, error) {
	i := bytes.IndexByte(b, '\n')
	k := i + 1
	if i < 0 {
		k = len(b)
	}
	if f.step == stepFirst || f.step == stepField || f.step == stepTrailer {
		if f.head += k; f.head > maxHead {
			return nil, k, malformed("a head of more than %d bytes", maxHead)
		}
	}
	if len(f.line)+k > maxLine {
		return nil, k, malformed("a line of more than %d bytes", maxLine)
	}
	if i < 0 {
		f.line = append(f.line, b...)
		return nil, k, nil
	}
	line := b[:k]
	if len(f.line) > 0 {
		f.line = append(f.line, line...)
		line = f.line
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, k, malformed("a line ends without CR")
	}
	line = line[:len(line)-2]
	if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return nil, k, malformed("a line has CR or NUL in it")
	}
	return line, k, nil
}

// take one line; done: the message ends with it.
func (f *framer) take(line []byte) (done bool, err error) {
	switch f.step {
	case stepFirst:
		f.length, f.coded, f.chunks = -1, false, false
		if len(line) == 0 && !f.response { // RFC 9112, 2.2: an empty line before a request is ignored
			return false, nil
		}
		f.step = stepField
		if f.response {
			return false, f.statusLine(line)
		}
		return false, f.requestLine(line)
	case stepField:
		if len(line) == 0 {
			return f.headEnds()
		}
		return false, f.field(line)
	case stepChunkSize:
		return false, f.chunkSize(line)
	case stepChunkEnd:
		if len(line) != 0 {
			return false, malformed("a chunk is longer than its size")
		}
		f.step = stepChunkSize
		return false, nil
	default: // stepTrailer
		if len(line) == 0 {
			return true, nil
		}
		if _, _, err := splitField(line); err != nil {
			return false, err
		}
		return false, nil
	}
}

func (f *framer) requestLine(line []byte) error {
	method, rest, ok := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || !token(method) || len(target) == 0 || !version1(version) {
		return malformed("a request line")
	}
	m := string(method)
	f.facts = facts{
		head: m == "HEAD", connect: m == "CONNECT",
		safe: m == "GET" || m == "HEAD" || m == "OPTIONS",
	}
	return nil
}

func (f *framer) statusLine(line []byte) error {
	version, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || !version1(version) || len(rest) < 3 || (len(rest) > 3 && rest[3] != ' ') {
		return malformed("a status line")
	}
	f.facts.status = 0
	for _, c := range rest[:3] {
		if c < '0' || c > '9' {
			return malformed("a status line")
		}
		f.facts.status = f.facts.status*10 + int(c-'0')
	}
	if f.facts.status < 100 {
		return malformed("a status line")
	}
	return nil
}

func version1(b []byte) bool {
	return len(b) == 8 && bytes.HasPrefix(b, []byte("HTTP/1.")) && (b[7] == '0' || b[7] == '1')
}

func (f *framer) field(line []byte) error {
	name, value, err := splitField(line)
	if err != nil {
		return err
	}
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		if f.length >= 0 {
			return malformed("Content-Length twice")
		}
		if len(value) == 0 || len(value) > 18 {
			return malformed("a Content-Length")
		}
		f.length = 0
		for _, c := range value {
			if c < '0' || c > '9' {
				return malformed("a Content-Length")
			}
			f.length = f.length*10 + int64(c-'0')
		}
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		if f.chunks {
			return malformed("a coding after chunked")
		}
		f.coded = true
		last := value
		if i := bytes.LastIndexByte(value, ','); i >= 0 {
			last = value[i+1:]
			if bytes.Contains(bytes.ToLower(value[:i]), []byte("chunked")) {
				return malformed("a coding after chunked")
			}
		}
		f.chunks = bytes.EqualFold(bytes.Trim(last, " \t"), []byte("chunked"))
	}
	return nil
}

// splitField refuses folded lines, and blanks before the colon.
func splitField(line []byte) (name, value []byte, err error) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || !token(name) {
		return nil, nil, malformed("a field")
	}
	return name, bytes.Trim(value, " \t"), nil
}

func token(b []byte) bool {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}

// headEnds decides how the body is delimited (RFC 9112, 6.3).
func (f *framer) headEnds() (done bool, err error) {
	if f.coded && f.length >= 0 {
		return false, malformed("Content-Length and Transfer-Encoding")
	}
	if f.response {
		s := f.facts.status
		switch {
		case s == 101 || (f.facts.connect && s/100 == 2):
			f.facts.tunnel = true
			return true, nil
		case s/100 == 1: // interim: the response is still to come
			f.step = stepFirst
			f.head = 0
			return false, nil
		case f.facts.head || s == 204 || s == 304:
			return true, nil
		}
	}
	switch {
	case f.chunks:
		f.step = stepChunkSize
	case f.coded && !f.response:
		return false, malformed("a request whose last coding is not chunked")
	case f.length > 0:
		f.step, f.left = stepBody, f.length
	case f.length == 0:
		return true, nil
	case f.response: // no length, or a coding that is not chunked
		f.step = stepUntilEnd
	default:
		return true, nil
	}
	f.facts.body = true
	return false, nil
}

func (f *framer) chunkSize(line []byte) error {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.TrimRight(digits, " \t")
	if len(digits) == 0 || len(digits) > 15 {
		return malformed("a chunk's size")
	}
	f.left = 0
	for _, c := range digits {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return malformed("a chunk's size")
		}
		f.left = f.left<<4 | int64(c)
	}
	f.step = stepChunk
	if f.left == 0 {
		f.step, f.head = stepTrailer, 0
	}
	return nil
}
