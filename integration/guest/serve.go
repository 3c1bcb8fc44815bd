package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serveHTTP is the plainest Go server there is: Serve, and Shutdown at the end
// of ctx. It answers
//
//	/          who answers; ?sleep=D first waits, ?bytes=N appends so many bytes
//	/env       the environment, a variable a line
//	/fds       the open descriptors, "N -> what" a line (Linux)
//	/exit      nothing: the process exits with ?code=N
func serveHTTP(ctx context.Context, l net.Listener, code int) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if d, err := time.ParseDuration(r.FormValue("sleep")); err == nil {
			time.Sleep(d)
		}
		text := identity() + "\n"
		if n, err := strconv.Atoi(r.FormValue("bytes")); err == nil {
			text += strings.Repeat("x", n) + "\n"
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = io.WriteString(w, text) // a client that left wants no answer
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Join(os.Environ(), "\n")+"\n")
	})
	mux.HandleFunc("/fds", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, descriptors())
	})
	mux.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		if n, err := strconv.Atoi(r.FormValue("code")); err == nil {
			code = n
		}
		fmt.Fprintf(os.Stderr, "guest: leaving as asked with %d\n", code)
		os.Exit(code)
	})
	server := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		done <- server.Shutdown(context.Background())
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

// descriptors lists what /proc says is open here.
func descriptors() string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err.Error() + "\n"
	}
	var text strings.Builder
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // the one that read the folder
		}
		fmt.Fprintf(&text, "%s -> %s\n", e.Name(), target)
	}
	return text.String()
}

// serveLines answers each line with itself and who answers. After the end of
// ctx it accepts nothing more, and serves what is there for drain.
func serveLines(ctx context.Context, l net.Listener, drain time.Duration) error {
	var sessions sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]struct{}{}
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
		sessions.Go(func() {
			echoLines(c)
			mu.Lock()
			delete(open, c)
			mu.Unlock()
		})
	}
	if drain >= 0 {
		timer := time.AfterFunc(drain, func() {
			mu.Lock()
			defer mu.Unlock()
			for c := range open {
				// Reading ends; a reply that is being written still goes out.
				_ = c.SetReadDeadline(time.Now())
			}
		})
		defer timer.Stop()
	}
	sessions.Wait()
	return nil
}

func echoLines(c net.Conn) {
	defer func() { _ = c.Close() }()
	me := identity()
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(c, "%s %s\n", strings.TrimSuffix(line, "\n"), me); err != nil {
			return
		}
	}
}

// serveUDP answers each datagram with itself and who answers. After the end of
// ctx it answers what already lies in its queue.
func serveUDP(ctx context.Context, c net.PacketConn) error {
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) })
	defer stop()
	me := identity()
	buffer := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		_, _ = c.WriteTo(fmt.Appendf(nil, "%s %s\n", strings.TrimSuffix(string(buffer[:n]), "\n"), me), from) // datagrams may be lost
	}
}
