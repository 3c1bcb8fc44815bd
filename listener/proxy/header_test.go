package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pires/go-proxyproto"
)

// greeted reads a PROXY v2 header by hand, gives it to got, and then answers lines.
func greeted(got chan<- []byte) func(*server, net.Conn) {
	return func(s *server, c net.Conn) {
		b := make([]byte, 16)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		rest := make([]byte, int(b[14])<<8|int(b[15]))
		if _, err := io.ReadFull(c, rest); err != nil {
			return
		}
		got <- append(b, rest...)
		lines(s, c)
	}
}

func TestHeaderOut(t *testing.T) {
	got := make(chan []byte, 4)
	p := started(t, Config{Policy: PolicyDrain, HeaderOut: true})
	p.Serve(newServer(t, 1, greeted(got)).backend())
	c := connect(t, p)
	if line := ask(t, c, "1"); line != "1 1" {
		t.Errorf("got %q", line)
	}
	first := <-got
	local, remote := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
	want := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x36\x7f\x00\x00\x01\x7f\x00\x00\x01"),
		byte(local.Port>>8), byte(local.Port), byte(remote.Port>>8), byte(remote.Port), 5, 0, 32)
	generation := func(n byte) []byte { return []byte{0xe7, 0, 4, 0, 0, 0, n} }
	if len(first) != len(want)+32+7 || !bytes.Equal(first[:len(want)], want) || !bytes.HasSuffix(first, generation(1)) {
		t.Errorf("got\n%s, want\n%s, 32 bytes of id, and generation 1", hex.Dump(first), hex.Dump(want))
	}
	if o := move(t, p, newServer(t, 2, greeted(got))); o.Stayed != 0 {
		t.Errorf("%+v", o)
	}
	if line := ask(t, c, "2"); line != "2 2" {
		t.Errorf("got %q", line)
	}
	if second := <-got; !bytes.Equal(append(first[:len(first)-7:len(first)-7], generation(2)...), second) {
		t.Errorf("the successor got\n%s, the predecessor\n%s", hex.Dump(second), hex.Dump(first))
	}
	other := connect(t, p)
	ask(t, other, "x")
	if third := <-got; bytes.Equal(third[len(want):len(want)+32], first[len(want):len(want)+32]) {
		t.Error("two clients have one id")
	}
}

// introduced reads the header as servers do that use the library, tells it, and then answers lines.
func introduced(got chan<- [2]string) func(*server, net.Conn) {
	return func(s *server, c net.Conn) {
		h, err := proxyproto.Read(bufio.NewReaderSize(iotest.OneByteReader(c), 1)) // none of the bytes after it
		if err != nil {
			got <- [2]string{err.Error()}
			return
		}
		tlvs, err := h.TLVs()
		if err != nil {
			got <- [2]string{err.Error()}
			return
		}
		var told [2]string
		for _, t := range tlvs {
			switch t.Type {
			case proxyproto.PP2_TYPE_UNIQUE_ID:
				told[0] = h.SourceAddr.String() + " " + string(t.Value)
			case 0xe7:
				told[1] = fmt.Sprint(binary.BigEndian.Uint32(t.Value))
			}
		}
		got <- told
		lines(s, c)
	}
}

// Over swaps each server is told its own generation, and the same of the client.
func TestHeaderOverSwaps(t *testing.T) {
	const clients, swaps = 5, 10
	for _, policy := range []Policy{PolicyDrain, PolicyResume} {
		t.Run(policy.String(), func(t *testing.T) {
			got := make(chan [2]string, clients*swaps) // one too many is met below, and holds up nobody
			p := started(t, Config{Policy: policy, HeaderOut: true})
			server := newServer(t, 1, introduced(got))
			p.Serve(server.backend())
			var all []net.Conn
			for range clients {
				c := connect(t, p)
				ask(t, c, "hello")
				all = append(all, c)
			}
			known := map[string]bool{}
			for generation := 1; ; generation++ {
				for range clients {
					told := <-got
					if generation == 1 {
						known[told[0]] = true
					}
					if !known[told[0]] || told[1] != fmt.Sprint(generation) {
						t.Fatalf("generation %d was told %q", generation, told)
					}
				}
				if len(known) != clients {
					t.Fatalf("%d clients are known by %d names", clients, len(known))
				}
				if generation > swaps {
					return
				}
				next := newServer(t, generation+1, introduced(got))
				if policy == PolicyResume {
					p.Hold()
					server.leave()
				}
				if o := move(t, p, next); o.Stayed != 0 {
					t.Fatalf("%+v", o)
				}
				server = next
				for _, c := range all {
					if line := ask(t, c, "x"); line != fmt.Sprintf("%d x", generation+1) {
						t.Fatalf("got %q", line)
					}
				}
			}
		})
	}
}

func TestHeaderIn(t *testing.T) {
	v2 := &proxyproto.Header{Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
		SourceAddr:      &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1234},
		DestinationAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 80}}
	if err := v2.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte("given")},
		{Type: proxyproto.PP2_TYPE_CRC32C, Value: make([]byte, 4)}, {Type: tlvGeneration, Value: []byte{0, 0, 0, 9}}}); err != nil {
		t.Fatal(err)
	}
	b, err := v2.Format()
	if err != nil {
		t.Fatal(err)
	}
	head := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00"
	addresses := "\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x50"
	for _, c := range []struct {
		name, in, out string // out is a prefix; empty: reset
		mode          HeaderMode
		trusted       []netip.Prefix
	}{
		{"v2", string(b), head + "\x1b" + addresses + "\x05\x00\x05given\xe7\x00\x04\x00\x00\x00\x01", HeaderRequired, nil},
		{"v1", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n", head + "\x36" + addresses + "\x05\x00\x20", HeaderRequired, nil},
		{"none", "hello, who is there\n", "", HeaderRequired, nil},
		{"broken", "PROXY TCP4 x\r\n", "", HeaderRequired, nil},
		{"not trusted", string(b), "", HeaderRequired, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		{"trusted", string(b), head + "\x1b" + addresses, HeaderRequired, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		{"optional", string(b), head + "\x1b" + addresses, HeaderOptional, nil},
		{"optional, none", "", head + "\x36\x7f\x00\x00\x01", HeaderOptional, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := make(chan []byte, 1)
			p := started(t, Config{HeaderOut: true, HeaderIn: HeaderIn{Mode: c.mode, Trusted: c.trusted, Timeout: patience}})
			p.Serve(newServer(t, 1, greeted(got)).backend())
			send := c.in + "1\n" // also what is read past the header
			if c.out == "" {
				if how := refused(t, p, send); how != "reset" {
					t.Errorf("the connection: %s", how)
				}
				if n := p.Stats().Rejected; n != 1 {
					t.Errorf("%d rejected", n)
				}
				return
			}
			conn := connect(t, p)
			io.WriteString(conn, send)
			if line := hear(t, conn); line != "1 1" {
				t.Errorf("got %q", line)
			}
			if b := <-got; !bytes.HasPrefix(b, []byte(c.out)) {
				t.Errorf("got\n%s, want\n%s", hex.Dump(b), hex.Dump([]byte(c.out)))
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		p := started(t, Config{HeaderIn: HeaderIn{Mode: HeaderOptional, Timeout: time.Millisecond}})
		p.Serve(newServer(t, 1, func(s *server, c net.Conn) { fmt.Fprintln(c, "you first") }).backend())
		if line := hear(t, connect(t, p)); line != "you first" {
			t.Errorf("got %q", line)
		}
	})
}

func FuzzHeaderIn(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\nrest"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x14\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x50\x05\x00\x05given"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	here, there := net.Pipe()
	f.Cleanup(func() { here.Close(); there.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), 512)
		h, err := parseHeader(r)
		if err != nil {
			return
		}
		o, err := newOrigin(here, h)
		if err != nil {
			return
		}
		out, err := o.format()
		if err != nil {
			return // more than fits
		}
		back, err := parseHeader(bufio.NewReader(bytes.NewReader(out)))
		if err != nil {
			t.Fatalf("what we write is not read: %v\n%s", err, hex.Dump(out))
		}
		if !h.Command.IsLocal() && h.SourceAddr != nil && back.SourceAddr.String() != h.SourceAddr.String() {
			t.Fatalf("%v became %v", h.SourceAddr, back.SourceAddr)
		}
	})
}
