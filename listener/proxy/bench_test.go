package proxy

import (
	"io"
	"net"
	"runtime"
	"testing"
)

func echo(s *server, c net.Conn) { io.Copy(c, c) }

func BenchmarkRoundTrip(b *testing.B) {
	p := started(b, Config{})
	p.Serve(newServer(b, 1, echo).backend())
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 64)
	for b.Loop() {
		c.Write(buf)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDownload(b *testing.B) {
	p := started(b, Config{})
	p.Serve(newServer(b, 1, func(s *server, c net.Conn) {
		buf := make([]byte, 256<<10)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}).backend())
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle says what an idle session costs in this process, beyond a connection without a proxy.
func BenchmarkIdle(b *testing.B) {
	const n = 1000
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	hold := func(address string) (cost uint64) {
		before := used()
		for range n {
			c, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "x"); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				b.Fatal(err)
			}
		}
		return used() - before
	}
	wait := func(s *server, c net.Conn) {
		var x [1]byte
		for {
			if _, err := c.Read(x[:]); err != nil {
				return
			}
			c.Write(x[:])
		}
	}
	s := newServer(b, 1, wait)
	p := started(b, Config{})
	p.Serve(s.backend())
	for b.Loop() {
		direct := hold(s.ln.Addr().String())
		b.ReportMetric(float64(hold(p.Addr().String())-direct)/n, "B/session")
	}
}
