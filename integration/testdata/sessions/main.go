// Command sessions is a server whose clients have sessions that are more than
// their connections: it reads numbered lines, answers each with its number, and
// remembers for each client, known by the unique id of its PROXY header, which
// number comes next and what it said of an unfinished line. The table of that
// is a shared segment, or a file.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/shmbridge"
)

func main() {
	f := flag.NewFlagSet("sessions", flag.ExitOnError)
	address := f.String("listen", "", "the server's own `ADDR`")
	file := f.String("file", "", "the table is in `FILE`, not in a segment")
	_ = f.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if *file != "" {
		memory, err := mapFile(*file)
		fail(err)
		fail(serve(ctx, *address, &table{memory}))
		return
	}
	bridge, err := shmbridge.Attach()
	fail(err)
	lease, err := bridge.Take(ctx, 0)
	fail(err)
	fail(serve(ctx, *address, &table{bridge.Bytes()}))
	fail(lease.Save(0))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "sessions:", err)
		os.Exit(3)
	}
}

func mapFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the mapping stays
	if err := f.Truncate(tableSize); err != nil {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, tableSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// serve answers until ctx ends, and then ends every connection at once.
func serve(ctx context.Context, address string, t *table) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	open := map[net.Conn]struct{}{}
	var all sync.WaitGroup
	go func() {
		<-ctx.Done()
		_ = l.Close() // ends Accept
	}()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			return err
		}
		mu.Lock()
		open[c] = struct{}{}
		mu.Unlock()
		all.Go(func() {
			if err := talk(c, t); err != nil {
				fmt.Fprintln(os.Stderr, "sessions:", err)
			}
			mu.Lock()
			delete(open, c)
			mu.Unlock()
		})
	}
	mu.Lock()
	for c := range open {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // an answer that is being written still goes out
	}
	mu.Unlock()
	all.Wait()
	return nil
}

// talk serves one connection, from where the client's session is.
func talk(c net.Conn, t *table) error {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	header, err := proxyproto.Read(in)
	if err != nil {
		if in.Buffered() == 0 {
			return nil // nothing was said: a probe
		}
		return fmt.Errorf("PROXY header: %w", err)
	}
	id, err := identity(header)
	if err != nil {
		return err
	}
	s, err := t.session(id)
	if err != nil {
		return err
	}
	for {
		if in.Buffered() == 0 { // a line that is there is answered
			if _, err := in.Peek(1); err != nil {
				return ended(err)
			}
		}
		b, _ := in.Peek(in.Buffered()) // they are there
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			if err := s.begin(b); err != nil {
				return err
			}
			_, _ = in.Discard(len(b)) // they are there
			continue
		}
		line := append(s.unfinished(), b[:end]...)
		_, _ = in.Discard(end + 1) // they are there
		n, err := strconv.ParseUint(string(line), 10, 64)
		if err != nil || n != s.last()+1 {
			_, _ = fmt.Fprintf(c, "%q follows %d\n", line, s.last())
			return fmt.Errorf("%q follows %d", line, s.last())
		}
		s.finish(n)
		if _, err := fmt.Fprintf(c, "%d gen=%s\n", n, os.Getenv("UPGRADER_GENERATION")); err != nil {
			return ended(err)
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// identity of a client, from a header that is for this generation.
func identity(h *proxyproto.Header) (uint64, error) {
	const generation = 0xe7
	tlvs, err := h.TLVs()
	if err != nil {
		return 0, err
	}
	told := map[proxyproto.PP2Type][]byte{}
	for _, v := range tlvs {
		told[v.Type] = v.Value
	}
	if n := told[generation]; len(n) != 4 || strconv.Itoa(int(binary.BigEndian.Uint32(n))) != os.Getenv("UPGRADER_GENERATION") {
		return 0, fmt.Errorf("the header is for generation %x, this is %s", n, os.Getenv("UPGRADER_GENERATION"))
	}
	b, err := hex.DecodeString(string(told[proxyproto.PP2_TYPE_UNIQUE_ID]))
	if err != nil || len(b) != 16 {
		return 0, fmt.Errorf("the unique id is %q", told[proxyproto.PP2_TYPE_UNIQUE_ID])
	}
	return binary.BigEndian.Uint64(b) | 1, nil // not 0
}
