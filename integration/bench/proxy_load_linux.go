package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The origin's kinds of conversation, by the first byte of a client.
const (
	kindEcho     = 'e' // messages of messageSize, each comes back
	kindDownload = 'd' // bytes without end
	kindUpload   = 'u' // to the client's end; how many they were is the answer
)

const (
	messageSize = 64
	bulkSize    = 256 << 10
	bulkStreams = 2
	talkers     = 16
)

func originEnv(address string) []string {
	return []string{roleEnv + "=" + roleOrigin, orderEnv + "=" + order{Address: address}.text()}
}

// serveOrigin is the server behind the proxies, and beside them.
func serveOrigin(o order) error {
	l, err := net.Listen("tcp", o.Address)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }() // the client knows what it got
			_ = attend(c)                    // it has gone
		}()
	}
}

func attend(c net.Conn) error {
	message := make([]byte, messageSize)
	if _, err := io.ReadFull(c, message[:1]); err != nil {
		return err
	}
	switch message[0] {
	case kindDownload:
		bulk := make([]byte, bulkSize)
		for {
			if _, err := c.Write(bulk); err != nil {
				return err
			}
		}
	case kindUpload:
		n, err := swallow(c, make([]byte, bulkSize))
		if err != nil {
			return err
		}
		_, err = c.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
		return err
	}
	for {
		if _, err := io.ReadFull(c, message); err != nil {
			return err
		}
		if _, err := c.Write(message); err != nil {
			return err
		}
	}
}

// swallow reads to the end. io.Copy would splice, and move nothing.
func swallow(c net.Conn, b []byte) (int64, error) {
	total := int64(0)
	for {
		n, err := c.Read(b)
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func dialKind(address string, kind byte) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience)) // fails only on a closed one
	if _, err := c.Write([]byte{kind}); err != nil {
		hangUp(c)
		return nil, err
	}
	return c, nil
}

// converse opens a connection and uses it once.
func converse(address string) (net.Conn, error) {
	c, err := dialKind(address, kindEcho)
	if err != nil {
		return nil, err
	}
	b := make([]byte, messageSize)
	if err := exchange(c, b); err != nil {
		hangUp(c)
		return nil, err
	}
	return c, nil
}

func exchange(c net.Conn, b []byte) error {
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

func knock(address string) error {
	c, err := converse(address)
	if err == nil {
		hangUp(c)
	}
	return err
}

// together runs n clients and gives what they counted per second.
func together(n int, client func(count *atomic.Int64) error) (float64, error) {
	var count atomic.Int64
	errs := make([]error, n)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = client(&count) })
	}
	wg.Wait()
	return float64(count.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}

// download gives GB/s of a few streams from the server.
func download(address string, d time.Duration) (float64, error) {
	end := time.Now().Add(d)
	perSecond, err := together(bulkStreams, func(count *atomic.Int64) error {
		c, err := dialKind(address, kindDownload)
		if err != nil {
			return err
		}
		defer hangUp(c)
		_ = c.SetReadDeadline(end) // fails only on a closed one
		n, err := swallow(c, make([]byte, bulkSize))
		count.Add(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		return errors.Join(err, errors.New("the download ended"))
	})
	return perSecond / 1e9, err
}

// upload gives GB/s of a few streams to the server, all of whose bytes it has got.
func upload(address string, d time.Duration) (float64, error) {
	end := time.Now().Add(d)
	perSecond, err := together(bulkStreams, func(count *atomic.Int64) error {
		c, err := dialKind(address, kindUpload)
		if err != nil {
			return err
		}
		defer hangUp(c)
		sent, bulk := 0, make([]byte, bulkSize)
		for time.Now().Before(end) {
			n, err := c.Write(bulk)
			sent += n
			if err != nil {
				return err
			}
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		answer := make([]byte, 8)
		if _, err := io.ReadFull(c, answer); err != nil {
			return err
		}
		if got := int(binary.BigEndian.Uint64(answer)); got != sent {
			return errors.New("the server did not get what was sent")
		}
		count.Add(int64(sent))
		return nil
	})
	return perSecond / 1e9, err
}

// echoes gives small requests per second on kept connections, each of which
// waits for its answer.
func echoes(address string, d time.Duration) (float64, error) {
	end := time.Now().Add(d)
	return together(talkers, func(count *atomic.Int64) error {
		c, err := converse(address)
		if err != nil {
			return err
		}
		defer hangUp(c)
		b := make([]byte, messageSize)
		n := int64(0)
		for n%64 != 0 || time.Now().Before(end) {
			if err := exchange(c, b); err != nil {
				return err
			}
			n++
		}
		count.Add(n)
		return nil
	})
}

// visits gives connections per second, each with one small request.
func visits(address string, d time.Duration) (float64, error) {
	end := time.Now().Add(d)
	return together(talkers, func(count *atomic.Int64) error {
		for time.Now().Before(end) {
			c, err := converse(address)
			if err != nil {
				return err
			}
			if err := c.Close(); err != nil {
				return err
			}
			count.Add(1)
		}
		return nil
	})
}
