package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/control"
)

func newDemo() *cobra.Command {
	swaps := 10
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: an embedded server swapped under load",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if swaps < 1 {
				return &exit{exitUsage, errors.New("--swaps: want at least 1")}
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			return demo(ctx, cmd.OutOrStdout(), swaps)
		},
	}
	cmd.Flags().IntVar(&swaps, "swaps", swaps, "how often the server is swapped")
	return cmd
}

// demo wraps this very binary as a server, drives it with clients, swaps it
// and counts. It fails when a single request did.
func demo(ctx context.Context, out io.Writer, swaps int) error {
	self, err := os.Executable()
	if err != nil {
		return &exit{exitSystem, err}
	}
	dir, err := os.MkdirTemp("", "upgrader-demo-")
	if err != nil {
		return &exit{exitSystem, err}
	}
	defer os.RemoveAll(dir)
	c := upgrader.Defaults()
	c.Command = []string{self, "demo-server"}
	c.Name, c.StateDir, c.Probation = "demo", dir+"/state", 0
	for _, spec := range []string{"http=127.0.0.1:0", "lines=127.0.0.1:0"} {
		a, err := listener.ParseAddress(spec)
		if err != nil {
			return err
		}
		c.Listen = append(c.Listen, a)
	}
	if c.Dialects, err = dialect.Parse("systemd"); err != nil {
		return err
	}
	served := make(chan struct{}, 1)
	c.Observe = func(e upgrader.Event) {
		if e.What == upgrader.EventSteered {
			select {
			case served <- struct{}{}:
			default:
			}
		}
	}
	running := make(chan *upgrader.Service, 1)
	type ended struct {
		upgrader.Exit
		err error
	}
	over := make(chan ended, 1)
	go func() {
		e, err := upgrader.Run(ctx, c, func(s *upgrader.Service) { running <- s })
		over <- ended{e, err}
	}()
	var service *upgrader.Service
	for service == nil || served != nil {
		select {
		case service = <-running:
		case <-served:
			served = nil
		case e := <-over:
			return &exit{exitSystem, fmt.Errorf("the demo's server did not start: %w", errors.Join(e.err, e.Reason))}
		}
	}
	status, err := service.Status(ctx)
	if err != nil {
		return &exit{exitSystem, err}
	}
	load := startLoad(strings.TrimPrefix(status.Claims[0].Address, "tcp://"), strings.TrimPrefix(status.Claims[1].Address, "tcp://"))
	rows, err := demoSwaps(ctx, out, service, load, swaps)
	load.stop()
	service.Stop()
	e := <-over
	if err == nil {
		err = errors.Join(e.err, e.Reason)
	}
	if err != nil {
		return &exit{exitSystem, err}
	}
	return demoTable(out, rows, load)
}

// demoRow is what one swap did to the clients.
type demoRow struct {
	verdict  control.Verdict
	requests int64
	failed   int64
	gap      time.Duration
}

// demoSwaps swaps again and again, with time between for the clients.
func demoSwaps(ctx context.Context, out io.Writer, s *upgrader.Service, load *demoLoad, swaps int) ([]demoRow, error) {
	var rows []demoRow
	for i := range swaps {
		load.mark()
		if err := load.progress(ctx, 200); err != nil {
			return rows, err
		}
		v, err := s.SwapAndWait(ctx, "demo")
		if err != nil {
			return rows, err
		}
		if err := load.progress(ctx, 200); err != nil {
			return rows, err
		}
		requests, failed, gap := load.since()
		rows = append(rows, demoRow{v, requests, failed, gap})
		fmt.Fprintf(out, "\rswap %d of %d: %s, generation %d serves, %d requests, %d failed ", i+1, swaps, v.Verdict, v.To, load.total(), load.failures())
		if v.Verdict != control.Committed {
			return rows, fmt.Errorf("a swap was not committed: %s", v.Reason)
		}
	}
	fmt.Fprintln(out)
	return rows, nil
}

// demoTable prints what came of it.
func demoTable(out io.Writer, rows []demoRow, load *demoLoad) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "swap\tverdict\tswap time\trequests\tfailed\tlongest gap\t")
	for i, r := range rows {
		fmt.Fprintf(w, "%d\t%s\t%v\t%d\t%d\t%v\t\n", i+1, r.verdict.Verdict, r.verdict.Took.Round(100*time.Microsecond), r.requests, r.failed, r.gap.Round(100*time.Microsecond))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	failed := load.failures()
	fmt.Fprintf(out, "%d requests on new connections and in line sessions, %d failed\n", load.total(), failed)
	if failed > 0 {
		return &exit{1, fmt.Errorf("%d requests failed; the first: %v", failed, load.firstError())}
	}
	return nil
}
