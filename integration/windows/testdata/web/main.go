// A server that binds its address by itself and answers HTTP with its process
// id, on connections that stay. It is asked to quit by the named events, and
// finishes what it was asked before it confirms.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/upgrader/upgrader/winevents"
)

func main() {
	address := flag.String("listen", "127.0.0.1:0", "where to listen")
	linger := flag.Duration("linger", 0, "how long to stay after the confirmation (10s)")
	flag.Parse()
	if err := run(*address, *linger); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run(address string, linger time.Duration) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/die" {
			os.Exit(7)
		}
		fmt.Fprintf(w, "gen=%d\n", os.Getpid())
	})}
	asked, err := winevents.NewAsked(winevents.AskedConfig{
		Times: winevents.Times{Linger: linger},
		Stop:  func(ctx context.Context, _ winevents.Signal) error { return s.Shutdown(ctx) },
	})
	if err != nil {
		return err
	}
	defer asked.Close()
	go s.Serve(l) // it ends when it is asked to
	fmt.Fprintln(os.Stderr, "serving", os.Getpid())
	return asked.Run(context.Background())
}
