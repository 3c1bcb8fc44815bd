package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const unended = -1

func TestFraming(t *testing.T) {
	req := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for _, c := range []struct {
		name     string
		response bool
		asked    facts
		in       string
		message  int // unended: it is not complete
	}{
		{name: "get", in: "GET / HTTP/1.1\nHost: x\n\n|GET"},
		{name: "empty line first", in: "\nGET / HTTP/1.1\nHost: x\n\n|G"},
		{name: "length", in: "POST / HTTP/1.1\nContent-Length: 3\n\nabc|GET"},
		{name: "no body", in: "POST / HTTP/1.1\nContent-Length: 0\n\n|GET"},
		{name: "chunks", in: "POST / HTTP/1.1\nTransfer-Encoding: gzip, chunked\n\n3;x=y\nabc\nA\n0123456789\n0\nA: b\n\n|GET"},
		{name: "incomplete", in: "POST / HTTP/1.1\nContent-Length: 9\n\nabc", message: unended},
		{name: "two lengths", in: "POST / HTTP/1.1\nContent-Length: 3\nContent-Length: 3\n\nabc"},
		{name: "both", in: "POST / HTTP/1.1\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n"},
		{name: "chunked twice", in: "POST / HTTP/1.1\nTransfer-Encoding: chunked, chunked\n\n0\n\n"},
		{name: "last coding", in: "POST / HTTP/1.1\nTransfer-Encoding: chunked, gzip\n\n0\n\n"},
		{name: "not chunked", in: "POST / HTTP/1.1\nTransfer-Encoding: gzip\n\n0\n\n"},
		{name: "folded", in: "GET / HTTP/1.1\nA: b\n c\n\n"},
		{name: "blank before colon", in: "GET / HTTP/1.1\nContent-Length : 3\n\nabc"},
		{name: "http2", in: "PRI * HTTP/2.0\n\nSM\n\n"},
		{name: "sign", in: "POST / HTTP/1.1\nContent-Length: +3\n\nabc"},
		{name: "chunk too long", in: "POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n3\nabcd\n0\n\n"},
		{name: "chunk size", in: "POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n0x3\nabc\n0\n\n"},
		{name: "tls", in: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"},
		{name: "ok", response: true, in: "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi|H"},
		{name: "no reason", response: true, in: "HTTP/1.1 204\n\n|H"},
		{name: "head", response: true, asked: facts{head: true}, in: "HTTP/1.1 200 OK\nContent-Length: 2\n\n|H"},
		{name: "not modified", response: true, in: "HTTP/1.1 304 Not Modified\nContent-Length: 2\n\n|H"},
		{name: "interim", response: true, in: "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Hints\nA: b\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nhi|H"},
		{name: "until the end", response: true, in: "HTTP/1.0 200 OK\n\nhi", message: unended},
		{name: "switch", response: true, in: "HTTP/1.1 101 Switching\nUpgrade: x\n\n|\x00"},
		{name: "connect", response: true, asked: facts{connect: true}, in: "HTTP/1.1 200 OK\n\n|\x00"},
		{name: "garbage", response: true, in: "SSH-2.0-x\n"},
		{name: "status", response: true, in: "HTTP/1.1 2x0 OK\n\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, rest, whole := strings.Cut(c.in, "|")
			in := req(first) + rest
			want, good := len(req(first)), whole || c.message == unended
			for size := 1; size <= len(in); size++ {
				n, done, err := feedAll(&framer{response: c.response, length: -1, facts: c.asked}, []byte(in), size)
				switch {
				case good && err != nil:
					t.Fatalf("by %d: %v", size, err)
				case !good && !errors.Is(err, errFraming):
					t.Fatalf("by %d: no error, but %d, %v", size, n, done)
				case good && (done != whole || n != want):
					t.Fatalf("by %d: got %d, %v, want %d, %v", size, n, done, want, whole)
				}
			}
		})
	}
	t.Run("bounded", func(t *testing.T) {
		f := &framer{length: -1}
		_, _, err := feedAll(f, append([]byte("GET /"), bytes.Repeat([]byte("x"), maxLine)...), 1000)
		if !errors.Is(err, errFraming) || cap(f.line) > 2*maxLine {
			t.Errorf("%v, %d bytes kept", err, cap(f.line))
		}
		f = &framer{length: -1}
		_, _, err = feedAll(f, []byte("GET / HTTP/1.1\r\n"+strings.Repeat("A: b\r\n", maxHead/6)), 1000)
		if !errors.Is(err, errFraming) {
			t.Errorf("a long head: %v", err)
		}
	})
}

// feedAll gives f the bytes of b, size at a time, up to the end of one message.
func feedAll(f *framer, b []byte, size int) (n int, done bool, err error) {
	for n < len(b) && !done && err == nil {
		var k int
		k, done, err = f.feed(b[n:min(n+size, len(b))])
		if k == 0 && err == nil {
			return n, done, fmt.Errorf("stuck at %d", n)
		}
		n += k
	}
	return n, done, err
}

// However the bytes are cut, they are framed alike.
func FuzzFraming(f *testing.F) {
	f.Add(false, 3, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add(true, 5, []byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 204 No Content\r\n\r\n"))
	f.Add(true, 1, []byte("HTTP/1.0 200 OK\r\n\r\nx"))
	f.Fuzz(func(t *testing.T, response bool, size int, b []byte) {
		if size < 1 || size > 1<<16 {
			size = 1
		}
		a, z := &framer{response: response, length: -1}, &framer{response: response, length: -1}
		for len(b) > 0 {
			n, done, err := feedAll(a, b, len(b))
			m, done2, err2 := feedAll(z, b, size)
			if (err == nil) != (err2 == nil) || err == nil && (n != m || done != done2) {
				t.Fatalf("whole: %d, %v, %v; by %d: %d, %v, %v", n, done, err, size, m, done2, err2)
			}
			if cap(a.line) > 4*maxLine || cap(z.line) > 4*maxLine {
				t.Fatal("too much is kept")
			}
			if err != nil || !done {
				return
			}
			b = b[n:]
		}
	})
}
