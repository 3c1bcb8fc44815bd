// The asking side: what a server does before it starts where another one runs.
// It says on stdout how its predecessor ended, or sends another signal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/upgrader/upgrader/integration/windows/testdata/segment"
	"github.com/upgrader/upgrader/winevents"
)

type successor struct {
	target      winevents.Target
	config      winevents.AskConfig
	gone        bool
	marker      string
	segment     string
	write, open time.Duration
	listen      string

	mapped *segment.Segment
}

func main() {
	var s successor
	flag.StringVar(&s.target.PidFile, "pidfile", "server.pid", "the predecessor's")
	flag.StringVar(&s.marker, "marker", "", "where it writes that it has saved")
	flag.StringVar(&s.target.Identity.Executable, "executable", "", "what it must be, when nothing else proves it")
	deadline := flag.String("deadline", "refuse", "what to do when the confirmation is late: refuse, proceed, kill")
	flag.DurationVar(&s.config.Times.Confirm, "confirm", 0, "how long that may take (15s)")
	timeout := flag.Duration("timeout", time.Minute, "when to give up")
	signal := flag.String("signal", "Kill", "Kill, or Reload, Stop, Quit, which nobody answers")
	flag.BoolVar(&s.gone, "gone", false, "wait until the predecessor is gone, too")
	flag.StringVar(&s.segment, "segment", "", "the memory that it shares: mapped before it is asked, and counted in when it has saved")
	flag.DurationVar(&s.write, "write", 300*time.Millisecond, "how long to count")
	flag.DurationVar(&s.open, "open", 0, "how long to wait before counting, as a slow start does")
	flag.StringVar(&s.listen, "listen", "", "an address that the predecessor may still have: retried until it is free")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	s.config.AtDeadline = winevents.Deadline(*deadline)
	s.config.Observe = func(e winevents.Event) { fmt.Println("event", e.What, e.Object) }
	s.prove()
	var err error
	if *signal == string(winevents.Kill) {
		err = s.run(ctx)
	} else {
		err = winevents.Send(ctx, s.target, winevents.Signal(*signal), s.config)
	}
	if err != nil {
		fmt.Println("error", err)
		cancel()
		os.Exit(1)
	}
}

// prove says what confirmations are compared with.
func (s *successor) prove() {
	switch {
	case s.segment != "":
		s.config.Prepare = func(winevents.Identity) (err error) {
			s.mapped, err = segment.Open(s.segment, false)
			return err
		}
		s.config.Saved = func(id winevents.Identity) error { return s.mapped.SavedBy(id.Pid) }
	case s.marker != "":
		s.config.Saved = func(id winevents.Identity) error { return saved(s.marker, id) }
	}
}

func (s *successor) run(ctx context.Context) error {
	answer, err := winevents.Ask(ctx, s.target, s.config)
	if err != nil {
		return err
	}
	// A server that starts now maps the memory, writes its own pid file and
	// closes the answer then.
	fmt.Println("result", answer.Result, answer.Marker, answer.Reason)
	if s.segment != "" {
		s.serve()
	}
	if s.listen != "" {
		err = bind(ctx, s.listen)
	}
	if s.gone {
		err = errors.Join(err, answer.Wait(ctx))
		fmt.Println("gone")
	}
	return errors.Join(err, answer.Close())
}

// serve counts on from where the predecessor stopped.
func (s *successor) serve() {
	time.Sleep(s.open)
	if s.mapped == nil {
		var err error
		if s.mapped, err = segment.Open(s.segment, false); err != nil {
			fmt.Println("data lost")
			return
		}
	}
	began := s.mapped.Counter()
	if began == 0 {
		fmt.Println("data lost")
		return
	}
	s.mapped.Begin()
	for end := time.Now().Add(s.write); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.mapped.Write()
	}
	fmt.Println("data kept, foreign", s.mapped.Foreign())
}

// bind retries: a predecessor may keep its port while it lingers.
func bind(ctx context.Context, address string) error {
	for {
		l, err := net.Listen("tcp", address)
		if err == nil {
			fmt.Println("listening")
			return l.Close()
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func saved(marker string, id winevents.Identity) error {
	text, err := os.ReadFile(marker)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(text)) != strconv.Itoa(id.Pid) {
		return fmt.Errorf("saved by %s", text)
	}
	return nil
}
