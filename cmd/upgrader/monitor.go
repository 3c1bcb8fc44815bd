package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/monitor"
)

func newMonitor() *cobra.Command {
	var asJSON bool
	return talk("monitor", "Watch services and their swaps as they happen: a live view in a terminal (q leaves), else a line for each change",
		func(set *pflag.FlagSet) {
			set.BoolVar(&asJSON, "json", false, "a JSON line for each change, in a terminal too")
		},
		func(ctx context.Context, c *control.Client, out io.Writer) error {
			if !asJSON && out == io.Writer(os.Stdout) {
				if s := openScreen(); s != nil {
					return s.monitor(ctx, c)
				}
			}
			return left(ctx, monitor.Follow(ctx, source{c}, &monitor.Lines{Out: out, JSON: asJSON}, monitor.Config{}))
		})
}

// left is the error of a command that followed an upgrader: that it has left
// is no failure.
func left(ctx context.Context, err error) error {
	if ctx.Err() != nil || gone(err) {
		return nil
	}
	return err
}

// gone reports whether err is that the upgrader has left.
func gone(err error) bool {
	return errors.Is(err, control.ErrLeft) || errors.Is(err, control.ErrNotRunning)
}

// source is a running upgrader for the monitor.
type source struct{ *control.Client }

func (s source) Status(ctx context.Context) ([]control.Status, error) {
	results, _, err := s.Each(ctx, control.Request{Do: control.DoStatus})
	if err != nil {
		return nil, err
	}
	var all []control.Status
	for _, r := range results {
		if r.Error != nil {
			return nil, fmt.Errorf("%s: %w", r.Server, r.Error)
		}
		if r.Status != nil {
			all = append(all, *r.Status)
		}
	}
	return all, nil
}
