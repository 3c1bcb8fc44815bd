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
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
)

// newDemoServer is the server that the demo wraps: it takes its sockets from
// LISTEN_FDS and shuts down plainly at TERM, as any server of Go does.
func newDemoServer() *cobra.Command {
	return &cobra.Command{
		Use: "demo-server", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := serveDemo(); err != nil {
				return &exit{1, err}
			}
			return nil
		},
	}
}

func serveDemo() error {
	byName, err := activation.ListenersWithNames()
	if err != nil {
		return err
	}
	if len(byName["http"]) != 1 || len(byName["lines"]) != 1 {
		return errors.New("demo-server: run me by: upgrader demo")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	generation := os.Getenv("UPGRADER_GENERATION")
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "generation %s, pid %d\n", generation, os.Getpid())
	})}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(byName["http"][0]) }()
	var sessions sync.WaitGroup
	lines := byName["lines"][0]
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := lines.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { echo(conn) })
		}
	}()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = lines.Close() // our descriptor of it: the lane itself is the upgrader's
	<-accepting
	sessions.Wait()
	return web.Shutdown(grace)
}

// echo gives back each line until the client leaves.
func echo(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, line); err != nil {
			return
		}
	}
}
