//go:build !goroutines

package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sockets is a connected pair of TCP connections: one of ours, and its peer.
func sockets(t *testing.T) (sock, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	peer.SetDeadline(time.Now().Add(patience))
	k, err := detach(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.close() })
	k.readable = true
	return k, peer.(*net.TCPConn)
}

// pattern is made of blocks that differ.
func pattern(n int) []byte {
	const block = 4 << 10
	b := make([]byte, n)
	for i := range min(n, block) {
		b[i] = byte(i ^ i>>8)
	}
	for i := block; i < n; i += block {
		copy(b[i:], b[:block])
	}
	for i := 0; i+4 <= n; i += block {
		binary.BigEndian.PutUint32(b[i:], uint32(i))
	}
	return b
}

// filled is a flow that has taken some bytes of from into a pipe.
func filled(t *testing.T, f *flow, from *sock, l *pipes) int {
	t.Helper()
	var n int
	await(t, "bytes to splice", func() bool {
		var err error
		if n, err = f.fill(from, l); err != nil && err != errAgain {
			t.Fatal(err)
		}
		return n > 0
	})
	return n
}

func TestPipesAreBounded(t *testing.T) {
	l := &pipes{size: 1 << 16}
	defer l.close()
	var lent []*pipe
	for x := l.borrow(); x != nil; x = l.borrow() {
		lent = append(lent, x)
	}
	if len(lent) != pipesLent {
		t.Errorf("%d were lent", len(lent))
	}
	for i, x := range lent {
		if i == 0 {
			x.n = 1 // it would be: nobody may get it
		}
		l.giveBack(x)
	}
	if len(l.free) != pipesKept || l.lent != 0 {
		t.Errorf("%d are kept, %d are lent", len(l.free), l.lent)
	}
	for _, x := range l.free {
		if x == lent[0] {
			t.Error("a pipe with bytes in it is kept")
		}
	}
}

// What does not fit the destination stays in the pipe, and comes next.
func TestPartialSplice(t *testing.T) {
	l := &pipes{size: 1 << 18}
	defer l.close()
	pool := newBufferPool(1 << 16)
	source, from := sockets(t)
	target, to := sockets(t)
	to.SetReadBuffer(64 << 10)
	if err := unix.SetsockoptInt(int(target.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10); err != nil {
		t.Fatal(err)
	}
	want := pattern(4 << 20)
	go from.Write(want)
	var f flow
	stuck, moved := 0, 0
	for stuck == 0 { // nobody reads
		moved += filled(t, &f, &source, l)
		if _, err := f.drain(&target, pool, l); err == errAgain {
			stuck = f.pipe.n
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if !f.pending() || target.writable {
		t.Errorf("pending: %v, writable: %v", f.pending(), target.writable)
	}
	got := make([]byte, moved)
	done := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(to, got)
		done <- err
	}()
	await(t, "the rest to be taken", func() bool {
		_, err := f.drain(&target, pool, l)
		return err == nil
	})
	if err := <-done; err != nil || !bytes.Equal(got, want[:moved]) {
		t.Errorf("got other bytes, %v", err)
	}
	f.rest(l)
	if f.pipe != nil || l.lent != 0 {
		t.Error("the pipe was not given back")
	}
}

// A destination that breaks leaves what was not given to it.
func TestSpliceIsReset(t *testing.T) {
	l := &pipes{size: 1 << 16}
	defer l.close()
	pool := newBufferPool(1 << 16)
	source, from := sockets(t)
	target, to := sockets(t)
	want := pattern(1000)
	from.Write(want)
	var f flow
	n := filled(t, &f, &source, l)
	to.SetLinger(0)
	to.Close()
	await(t, "the reset", func() bool { return target.failure() != nil || errors.Is(sendNothing(&target), unix.EPIPE) })
	if _, err := f.drain(&target, pool, l); err == nil || err == errAgain {
		t.Fatalf("drained: %v", err)
	}
	b, err := f.take(pool, l)
	if err != nil || !bytes.Equal(b, want[:n]) {
		t.Errorf("%d bytes are left of %d: %v", len(b), n, err)
	}
	if f.pending() || l.lent != 0 || len(l.free) != 1 {
		t.Errorf("pending: %v, lent: %d, kept: %d", f.pending(), l.lent, len(l.free))
	}
}

func sendNothing(k *sock) error {
	_, err := send(k.fd, []byte{0})
	return err
}

// Sockets that cannot be spliced are copied, with what is in a pipe already.
func TestUnspliced(t *testing.T) {
	l := &pipes{size: 1 << 16}
	defer l.close()
	pool := newBufferPool(1 << 16)
	source, from := sockets(t)
	want := pattern(1000)
	from.Write(want)
	var f flow
	n := filled(t, &f, &source, l)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	to := newSock(fds[0], false)
	defer to.close()
	f.waiting, err = f.take(pool, l)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := f.drain(&to, pool, l); m != n || err != nil {
		t.Fatalf("%d of %d, %v", m, n, err)
	}
	got := make([]byte, 2000)
	if m, err := unix.Read(fds[1], got); err != nil || !bytes.Equal(got[:m], want[:n]) {
		t.Errorf("got %d bytes, %v", m, err)
	}
	f.unable = true
	if _, err := f.fill(&source, l); err != errUnable {
		t.Errorf("filled: %v", err)
	}
}
