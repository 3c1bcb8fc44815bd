// The asked side: a server with nothing to serve. It says on stdout what happens
// to it, one word or two a line.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/upgrader/upgrader/winevents"
)

func main() {
	pidFile := flag.String("pidfile", "server.pid", "where to write the process id")
	marker := flag.String("marker", "", "where to write that we have saved (a real server does that in its shared memory)")
	stop := flag.Duration("stop", 200*time.Millisecond, "how long the services take to stop")
	services := flag.Duration("services", 0, "how long they may take (10s)")
	linger := flag.Duration("linger", 0, "how long to stay after the confirmation (10s)")
	flag.Parse()
	if err := run(*pidFile, *marker, *stop, winevents.Times{Services: *services, Linger: *linger}); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("exit")
}

func run(pidFile, marker string, stop time.Duration, times winevents.Times) error {
	asked, err := winevents.NewAsked(winevents.AskedConfig{
		Times: times,
		Stop: func(ctx context.Context, signal winevents.Signal) error {
			fmt.Println("stopping", signal)
			select {
			case <-time.After(stop):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		Save: func(context.Context, winevents.Stopping) error {
			if marker == "" {
				return nil
			}
			return os.WriteFile(marker, []byte(strconv.Itoa(os.Getpid())), 0o644)
		},
		Reload: func(context.Context) { fmt.Println("reload") },
		Observe: func(e winevents.Event) {
			if e.What == winevents.EventConfirmed {
				fmt.Println("confirmed")
			}
		},
	})
	if err != nil {
		return err
	}
	defer asked.Close()
	// Only now: whoever reads the file finds the events.
	if err := winevents.WritePidFile(pidFile, asked.Identity()); err != nil {
		return err
	}
	fmt.Println("ready", os.Getpid())
	return asked.Run(context.Background())
}
