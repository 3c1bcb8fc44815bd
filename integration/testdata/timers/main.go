// Command timers is the example of docs/timers.md: a module with two timers
// that goes through swaps. It answers with its state as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/upgrader/upgrader/shmbridge"
)

func main() {
	schema := flag.Uint64("schema", 1, "of the segment, that is written")
	failing := flag.Bool("failing", false, "fail in the upgrade, after it wrote")
	flag.Parse()
	if err := run(*schema, *failing); err != nil {
		fmt.Fprintln(os.Stderr, "timers:", err)
		os.Exit(1)
	}
}

func run(schema uint64, failing bool) error {
	bridge, err := shmbridge.Attach()
	if err != nil {
		return err
	}
	old, err := bridge.Page().Status()
	if err != nil {
		return err
	}
	lease, err := bridge.Take(context.Background(), schema)
	if err != nil {
		return err
	}
	m := &module{world: (*world)(unsafe.Pointer(&bridge.Bytes()[0]))} // a mapping begins with a page
	if bridge.Found() != shmbridge.Fresh {
		err = m.upgrade(old.Schema, schema)
	}
	if failing {
		*m.world = world{Due: 1}
		err = errors.New("failing in the upgrade")
	}
	if err != nil {
		return err
	}
	m.start()
	hot, err := m.serve(schema)
	if err != nil {
		return err
	}
	m.stop(hot)
	return lease.Save(0)
}

// serve runs the timers until it is told to quit, and tells whether a
// successor waits: --swap-signal USR1 has the upgrader say so.
func (m *module) serve(schema uint64) (hot bool, err error) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM)
	listener, err := net.FileListener(os.NewFile(3, "lane"))
	if err != nil {
		return false, err
	}
	var mu sync.Mutex // what the timers write is read by clients
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		now := *m.world
		mu.Unlock()
		_ = json.NewEncoder(w).Encode(now) // the client left
	})}
	go func() { _ = server.Serve(listener) }() // ended below
	defer func() { _ = server.Shutdown(context.Background()) }()
	inherited := time.NewTimer(m.due())
	defer inherited.Stop()
	for {
		select {
		case <-m.ticker.C:
			mu.Lock()
			m.Ticks++
			mu.Unlock()
		case <-inherited.C:
			mu.Lock()
			m.fire(schema)
			inherited.Reset(m.due())
			mu.Unlock()
		case sig := <-signals:
			return sig == syscall.SIGUSR1, nil
		}
	}
}
