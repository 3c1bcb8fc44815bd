//go:build !goroutines

package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// What a server did not take of a stream goes to the next one whole, also when it is more than the next one's
// connection takes at once: a Unix socket holds less than a pipe and what was copied beside it.
func TestCarryOfAStream(t *testing.T) {
	const size = 16 << 20
	sent := pattern(size)
	p := started(t, Config{InFlight: InFlightResume, Limits: Limits{Buffer: 256 << 10}}) // a pipe holds four times as much
	serve := func(generation int, handle func(net.Conn)) Backend {
		path := filepath.Join(t.TempDir(), "s")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				handle(c)
			}
		}()
		return Backend{generation, func(ctx context.Context) (net.Conn, error) { return Dial(ctx, "unix", path, nil) }}
	}
	first := make(chan net.Conn, 1)
	p.Serve(serve(1, func(c net.Conn) {
		io.CopyN(io.Discard, c, size/2) // the stream has got a pipe
		first <- c
	}))
	client := connect(t, p)
	go func() {
		if _, err := client.Write(sent); err == nil {
			client.CloseWrite()
		}
	}()
	server := <-first
	full(t, p)
	p.Hold()
	server.Close() // with unread bytes
	await(t, "the session to be without a server", func() bool { return p.Stats().Parked == 1 })
	taken := p.Stats().BytesUp
	proceed, got := make(chan struct{}), make(chan []byte, 1)
	p.Serve(serve(2, func(c net.Conn) {
		<-proceed
		b, _ := io.ReadAll(c)
		c.Close()
		got <- b
	}))
	p.Resume()
	full(t, p)
	close(proceed)
	if b := <-got; !bytes.Equal(b, sent[taken:]) {
		at := 0
		for at < len(b) && at < len(sent)-int(taken) && b[at] == sent[int(taken)+at] {
			at++
		}
		t.Errorf("after %d bytes that the first server had, the second got %d, want %d; they differ from byte %d on", taken, len(b), size-taken, at)
	}
}
