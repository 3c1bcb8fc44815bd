// The asked side: a server with nothing to serve. It says on stdout what happens
// to it, one word or two a line. With -succeed it asks whom the pid file names
// first, as a server does that is started where another one runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/upgrader/upgrader/integration/windows/testdata/segment"
	"github.com/upgrader/upgrader/winevents"
)

type server struct {
	pidFile, marker string
	stop            time.Duration
	segment         *segment.Segment // nil: none
	stopped         chan struct{}    // closed when nothing is written any more
	wanted          chan struct{}    // closed when nothing shall be
}

func main() {
	s := server{stopped: make(chan struct{}), wanted: make(chan struct{})}
	flag.StringVar(&s.pidFile, "pidfile", "server.pid", "where to write the process id")
	flag.StringVar(&s.marker, "marker", "", "where to write that we have saved (a real server does that in its shared memory)")
	flag.DurationVar(&s.stop, "stop", 200*time.Millisecond, "how long the services take to stop")
	services := flag.Duration("services", 0, "how long they may take (10s)")
	linger := flag.Duration("linger", 0, "how long to stay after the confirmation (10s)")
	succeed := flag.Bool("succeed", false, "ask whom the pid file names to quit first")
	name := flag.String("segment", "", "shared memory to count in")
	flag.Parse()
	if err := s.run(*name, *succeed, winevents.Times{Services: *services, Linger: *linger}); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("exit")
}

func (s *server) run(name string, succeed bool, times winevents.Times) (err error) {
	if name != "" {
		if s.segment, err = segment.Open(name, true); err != nil {
			return err
		}
	}
	var answer *winevents.Answer
	if succeed {
		answer, err = winevents.Ask(context.Background(), winevents.Target{PidFile: s.pidFile}, winevents.AskConfig{})
		if err != nil {
			return err
		}
		fmt.Println("result", answer.Result)
	}
	asked, err := winevents.NewAsked(winevents.AskedConfig{
		Times:  times,
		Stop:   s.quit,
		Save:   s.save,
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
	go s.count()
	// Only now: whoever reads the file finds the events.
	err = winevents.WritePidFile(s.pidFile, asked.Identity())
	if answer != nil {
		err = errors.Join(err, answer.Close())
	}
	if err != nil {
		return err
	}
	fmt.Println("ready", os.Getpid())
	return asked.Run(context.Background())
}

// count writes until nobody wants that any more.
func (s *server) count() {
	defer close(s.stopped)
	if s.segment != nil {
		s.segment.Begin()
	}
	for {
		select {
		case <-s.wanted:
			return
		case <-time.After(time.Millisecond):
		}
		if s.segment != nil {
			s.segment.Write()
		}
	}
}

func (s *server) quit(ctx context.Context, signal winevents.Signal) error {
	fmt.Println("stopping", signal)
	select {
	case <-time.After(s.stop):
	case <-ctx.Done():
		return ctx.Err()
	}
	close(s.wanted)
	<-s.stopped
	return nil
}

func (s *server) save(_ context.Context, stopping winevents.Stopping) error {
	if errors.Is(stopping.Err, winevents.ErrServicesRunning) {
		return stopping.Err
	}
	if s.segment != nil {
		s.segment.Save(os.Getpid())
	}
	if s.marker == "" {
		return nil
	}
	return os.WriteFile(s.marker, []byte(strconv.Itoa(os.Getpid())), 0o644)
}
