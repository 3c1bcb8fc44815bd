// Command ledger is a server that keeps all it has in a shared segment: a
// counter, a ring of records and a checksum. It answers
//
//	POST /add?client=C&n=N  commit record N of client C (N counts from 1); a repeated one is answered, not committed again
//	GET  /                  the state as JSON
//	POST /scribble          write over all of the segment and die
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
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/shmbridge"
)

func main() {
	f := flag.NewFlagSet("ledger", flag.ExitOnError)
	schema := f.Uint64("schema", 0, "what the segment is written in")
	scribble := f.Bool("scribble", false, "write over all of the segment before being ready, then die")
	spoil := f.Bool("spoil", false, "spoil one record, then serve")
	unmanaged := f.Bool("unmanaged", false, "never take the lease")
	careless := f.Bool("careless", false, "leave without saving")
	strict := f.Bool("strict", false, "take no segment that is in another schema")
	migrate := f.Bool("migrate", false, "bring the segment into the schema that the environment names")
	failing := f.String("failing", "", "with -migrate: write, then fail in this `TURN`")
	check := f.Bool("check", false, "tell by the exit status whether the segment is sound")
	hold := f.String("hold", "", "map `FILE` until TERM comes")
	_ = f.Parse(os.Args[1:]) // exits by itself
	if *hold != "" {
		fail(holdFile(*hold))
		return
	}
	bridge, err := shmbridge.Attach()
	fail(err)
	l := &ledger{data: bridge.Bytes()}
	if *check {
		fail(l.check())
		return
	}
	if *migrate {
		fail(l.migrate(*failing))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var lease *shmbridge.Lease
	if !*unmanaged {
		lease, err = bridge.Take(ctx, *schema)
		fail(err)
	}
	if *scribble {
		l.scribble()
		fail(errors.New("scribbled"))
	}
	fail(l.recover())
	if have := l.load(atSchema); *strict && have != 0 && have != *schema {
		fail(fmt.Errorf("the segment is in schema %d, not %d", have, *schema))
	}
	l.store(atSchema, *schema)
	if *spoil {
		l.store(l.slot(l.load(atCount))+inCheck, 1)
	}
	fail(l.serve(ctx, bridge))
	if lease != nil && !*careless {
		fail(lease.Save(l.load(atSum)))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(3)
	}
}

// holdFile is a stranger that maps a segment.
func holdFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := unix.Mmap(int(file.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	fmt.Println("holding")
	<-term
	return nil
}

// serve answers until TERM comes.
func (l *ledger) serve(ctx context.Context, bridge *shmbridge.Bridge) error {
	if os.Getenv("LISTEN_FDS") != "1" {
		return fmt.Errorf("LISTEN_FDS is %q: the segment's descriptors are no sockets", os.Getenv("LISTEN_FDS"))
	}
	listener, err := net.FileListener(os.NewFile(3, "lane"))
	if err != nil {
		return err
	}
	var mu sync.Mutex // one writer
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add", func(w http.ResponseWriter, r *http.Request) {
		client, err1 := strconv.ParseUint(r.FormValue("client"), 10, 64)
		n, err2 := strconv.ParseUint(r.FormValue("n"), 10, 64)
		if err := errors.Join(err1, err2); err != nil || client >= clients {
			http.Error(w, fmt.Sprint(err, client), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if err := l.add(client, n); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		s := l.state()
		s.Found, s.Pid, s.Generation = bridge.Found().String(), os.Getpid(), os.Getenv(shmbridge.EnvGeneration)
		if err := l.check(); err != nil {
			s.Unsound = err.Error()
		}
		_ = json.NewEncoder(w).Encode(s) // the client left
	})
	mux.HandleFunc("POST /scribble", func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		l.scribble()
		fail(errors.New("scribbled while serving"))
	})
	server := &http.Server{Handler: mux}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	leave, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return server.Shutdown(leave)
}
