package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "flip:", err)
		os.Exit(1)
	}
}

func serve(address string) error {
	upg, err := tableflip.New(tableflip.Options{})
	if err != nil {
		return err
	}
	defer upg.Stop()
	ln, err := upg.Listen("tcp", address)
	if err != nil {
		return err
	}
	generation, parent := os.Getenv("UPGRADER_GENERATION"), upg.HasParent()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "gen=%s pid=%d parent=%t\n", generation, os.Getpid(), parent) // the client may have left
	})}
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGTERM)
	go func() { _ = server.Serve(ln) }() // it ends with Shutdown
	if err := upg.Ready(); err != nil {
		return err
	}
	if parent {
		if err := upg.WaitForParent(context.Background()); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "flip: the parent is gone")
	}
	select {
	case <-quit:
	case <-upg.Exit():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}
