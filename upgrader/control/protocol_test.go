package control

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadLine(t *testing.T) {
	full := strings.Repeat("x", 10_000)
	for text, want := range map[string]string{
		"a\nb\n": "a", "\n\n a \r\n": "a", full + "\n": full,
	} {
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			if got, err := readLine(bufio.NewReaderSize(r, 16), len(full)); err != nil || string(got) != want {
				t.Errorf("%.20q: %.20q, %v", text, got, err)
			}
		}
	}
	for text, want := range map[string]error{
		"": io.EOF, "\n": io.EOF, "a": io.ErrUnexpectedEOF, full + "x\n": errTooLong, strings.Repeat(full, 2): errTooLong,
	} {
		if got, err := readLine(bufio.NewReaderSize(strings.NewReader(text), 16), len(full)); !errors.Is(err, want) {
			t.Errorf("%.20q: %.20q, %v", text, got, err)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, s := range []string{
		`{"v":1,"do":"status"}` + "\n", `{"v":1,"do":"restart","args":{"no_wait":true,"wait_probation":false}}` + "\n",
		`{"v":1,"do":"stop","args":{"now":true}}` + "\n\n", `{"v":2}` + "\n", "\n\n", "{", "null\n", `{"v":1,"do":"status"} {}` + "\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &counting{r: bytes.NewReader(data)}
		q, err := readRequest(r)
		if r.n > maxRequest+2*4096 {
			t.Errorf("%d bytes were read", r.n)
		}
		if err == nil {
			if q.Version != ProtocolVersion || q.Asked != "" {
				t.Errorf("%q gave %+v", data, q)
			}
			switch q.Do {
			case DoStatus, DoEvents, DoRestart, DoRollback, DoReload, DoStop:
			default:
				t.Errorf("%q asks for %q", data, q.Do)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", data, err)
		}
		if e != nil && (e.Code == "" || strings.Contains(e.Message, "\n")) {
			t.Errorf("%q: %+v", data, e)
		}
	})
}

// counting counts what is read.
type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}
