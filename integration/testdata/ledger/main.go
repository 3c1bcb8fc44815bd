// Command ledger is a server that keeps all it has in a shared segment: a
// counter, a ring of records and a checksum. It answers
//
//	POST /add?client=C&n=N  commit record N of client C (N counts from 1); a repeated one is answered, not committed again
//	GET  /                  the state as JSON
//	POST /scribble          write over all of the segment and die
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/integration/ledger"
	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/shmbridge"
)

func main() {
	f := flag.NewFlagSet("ledger", flag.ExitOnError)
	schema := f.Uint64("schema", 0, "what the segment is written in")
	scribble := f.Bool("scribble", false, "write over all of the segment before being ready, then die")
	spoil := f.Bool("spoil", false, "spoil one record, then serve")
	unmanaged := f.Bool("unmanaged", false, "never take the lease")
	careless := f.Bool("careless", false, "leave without saving")
	ready := f.Bool("ready", false, "say READY=1, and serve nobody before that was heard")
	strict := f.Bool("strict", false, "take no segment that is in another schema")
	migrate := f.Bool("migrate", false, "bring the segment into the schema that the environment names")
	failing := f.String("failing", "", "with -migrate: write, then fail in this `TURN`")
	check := f.Bool("check", false, "tell by the exit status whether the segment is sound")
	atEnd := f.Bool("at-end", false, "lie at the end of the segment, not at its beginning")
	hold := f.String("hold", "", "map `FILE` until TERM comes")
	_ = f.Parse(os.Args[1:]) // exits by itself
	if *hold != "" {
		fail(holdFile(*hold))
		return
	}
	bridge, err := shmbridge.Attach()
	fail(err)
	memory := bridge.Bytes()
	if *atEnd {
		memory = memory[(len(memory)-ledger.Size)&^7:]
	}
	l := ledger.New(memory)
	if *check {
		fail(l.Check())
		return
	}
	if *migrate {
		fail(migrateIn(l, *failing))
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
		l.Scribble()
		fail(errors.New("scribbled"))
	}
	fail(l.Recover())
	if have := l.Schema(); *strict && have != 0 && have != *schema {
		fail(fmt.Errorf("the segment is in schema %d, not %d", have, *schema))
	}
	l.SetSchema(*schema)
	if *spoil {
		l.Spoil()
	}
	if *ready {
		fail(notify.Send("READY=1"))
		fail(notify.Barrier(ctx))
	}
	fail(serve(ctx, l, bridge))
	if lease != nil && !*careless {
		fail(lease.Save(l.Sum()))
	}
}

// migrateIn brings the segment into the schema that UPGRADER_SCHEMA_TO names. A
// copy from under a writer may be torn: it is not looked at closely.
func migrateIn(l *ledger.Ledger, failing string) error {
	turn := os.Getenv("UPGRADER_MIGRATION")
	from, err1 := strconv.ParseUint(os.Getenv("UPGRADER_SCHEMA_FROM"), 10, 64)
	to, err2 := strconv.ParseUint(os.Getenv("UPGRADER_SCHEMA_TO"), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if have := l.Schema(); have != from {
		return fmt.Errorf("the copy is in schema %d, not %d", have, from)
	}
	if turn == failing {
		l.Scribble()
		return fmt.Errorf("failing in the %s", turn)
	}
	if turn == "final" {
		if err := l.Check(); err != nil {
			return err
		}
	}
	l.SetSchema(to)
	return nil
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
func serve(ctx context.Context, l *ledger.Ledger, bridge *shmbridge.Bridge) error {
	if os.Getenv("LISTEN_FDS") != "1" {
		return fmt.Errorf("LISTEN_FDS is %q: the segment's descriptors are no sockets", os.Getenv("LISTEN_FDS"))
	}
	listener, err := net.FileListener(os.NewFile(3, "lane"))
	if err != nil {
		return err
	}
	handler := ledger.Handler(l, func(s *ledger.State) { s.Found = bridge.Found().String() })
	server := &http.Server{Handler: handler}
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
