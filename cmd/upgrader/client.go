package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/state"
)

// where says which running upgrader a command is for.
type where struct{ name, dir string }

func (w *where) register(set *pflag.FlagSet) {
	set.StringVar(&w.dir, "state-dir", "", "the upgrader with this state `DIR`")
	set.StringVar(&w.name, "name", "", "the upgrader of this `NAME` (default: the only one of this user)")
}

// client finds it. services are those that the command is for.
func (w *where) client(ctx context.Context, set *pflag.FlagSet, services ...string) (*control.Client, error) {
	if err := fromEnvironment(set, os.LookupEnv); err != nil {
		return nil, &exit{exitUsage, err}
	}
	dir := w.dir
	if dir == "" {
		r, err := state.Find(w.name)
		var several *state.AmbiguousError
		if errors.As(err, &several) && len(services) > 0 {
			return having(ctx, several.Running, services)
		}
		if err != nil {
			return nil, &exit{exitUsage, err}
		}
		dir = r.Dir
	}
	return dial(ctx, dir, services)
}

// having finds the one of several upgraders that has the services.
func having(ctx context.Context, running []state.Running, services []string) (*control.Client, error) {
	var fit []*control.Client
	for _, r := range running {
		c, err := dial(ctx, r.Dir, services)
		if err != nil {
			continue // it is leaving
		}
		if _, _, err := c.Each(ctx, control.Request{Do: control.DoStatus}); err == nil {
			fit = append(fit, c)
		}
	}
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		return nil, &exit{exitUsage, fmt.Errorf("no upgrader has the service %s", strings.Join(services, ", "))}
	default:
		return nil, &exit{exitUsage, fmt.Errorf("several upgraders have the service %s: say which by --name or --state-dir", strings.Join(services, ", "))}
	}
}

func dial(ctx context.Context, dir string, services []string) (*control.Client, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c, err := control.Dial(ctx, dir)
	if errors.Is(err, control.ErrNotRunning) {
		return nil, &exit{exitUsage, fmt.Errorf("no upgrader answers in %s", dir)}
	}
	if err != nil {
		return nil, err
	}
	return c.For(services...), nil
}

// talk makes a command that talks to a running upgrader.
func talk(use, short string, flags func(*pflag.FlagSet), f func(ctx context.Context, c *control.Client, out io.Writer) error) *cobra.Command {
	var w where
	cmd := &cobra.Command{
		Use: use + " [ID...]", Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, services []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			c, err := w.client(ctx, cmd.Flags(), services...)
			if err == nil {
				err = f(ctx, c, cmd.OutOrStdout())
			}
			var e *exit
			var said *control.Error
			switch {
			case err == nil || errors.As(err, &e):
			case errors.As(err, &said) && (said.Code == control.CodeUnknown || said.Code == control.CodeBadRequest):
				return &exit{exitUsage, said}
			default:
				return &exit{exitSystem, err}
			}
			return err
		},
	}
	w.register(cmd.Flags())
	if flags != nil {
		flags(cmd.Flags())
	}
	return cmd
}

func newStatus() *cobra.Command {
	var asJSON bool
	return talk("status", "Tell how a running upgrader is",
		func(set *pflag.FlagSet) { set.BoolVar(&asJSON, "json", false, "the whole status as JSON") },
		func(ctx context.Context, c *control.Client, out io.Writer) error {
			results, several, err := c.Each(ctx, control.Request{Do: control.DoStatus})
			if err != nil {
				return err
			}
			var all []control.Status
			for _, r := range results {
				switch {
				case r.Error != nil:
					return fmt.Errorf("%s: %w", r.Server, r.Error)
				case r.Status == nil:
					return errors.New("no status in the answer")
				}
				all = append(all, *r.Status)
			}
			switch {
			case asJSON && several:
				return indented(out, all)
			case asJSON:
				return indented(out, all[0])
			}
			for i, st := range all {
				if i > 0 {
					fmt.Fprintln(out)
				}
				if err := control.Render(out, st, time.Now()); err != nil {
					return err
				}
			}
			return nil
		})
}

func newRestart() *cobra.Command {
	return swapping("restart", "Swap the server: exit 0 committed, 1 rolled back, 2 failed", control.DoRestart, &canary{})
}

func newRollback() *cobra.Command {
	return swapping("rollback", "Swap back to what ran before the last commit", control.DoRollback, nil)
}

// swapping makes a command that asks for a swap and exits with its verdict: the
// worst one, of several services, which are swapped one after the other.
func swapping(use, short, do string, steps *canary) *cobra.Command {
	var o control.RestartOptions
	var asJSON, all bool
	return talk(use, short,
		func(set *pflag.FlagSet) {
			set.BoolVar(&o.NoWait, "no-wait", false, "answer at once, without a verdict")
			set.BoolVar(&o.WaitProbation, "wait-probation", false, "answer at the end of probation rather than at the commit")
			set.BoolVar(&asJSON, "json", false, "the verdict as JSON")
			set.BoolVar(&all, "all", false, "all services of an upgrader that has several")
			if steps != nil {
				steps.register(set)
			}
		},
		func(ctx context.Context, c *control.Client, out io.Writer) error {
			if steps != nil {
				if err := steps.parse(&o); err != nil {
					return err
				}
			}
			if all {
				c = c.All()
			}
			results, several, err := c.Each(ctx, control.Request{Do: do, Args: control.Args{NoWait: o.NoWait, WaitProbation: o.WaitProbation, Canary: o.Canary, Step: o.Step}})
			var said *control.Error
			switch {
			case errors.As(err, &said) && said.Code == control.CodeBadRequest:
				return &exit{exitUsage, said} // nothing was asked of anybody
			case errors.As(err, &said) && said.Code == control.CodeUnknown:
				return said
			case err != nil:
				return &exit{2, err}
			}
			return verdicts(out, results, o.NoWait, asJSON, several)
		})
}

// verdicts prints those of all services, and ends with the worst.
func verdicts(out io.Writer, results []control.Result, noWait, asJSON, several bool) error {
	code := 0
	for _, r := range results {
		n, err := verdict(out, r, noWait, asJSON, several)
		if err != nil {
			return err
		}
		code = max(code, n)
	}
	if code != 0 {
		return &exit{code, nil}
	}
	return nil
}

func newSelfUpgrade() *cobra.Command {
	var asJSON bool
	return talk("self-upgrade", "Replace the upgrader's own program by what its name means now, and swap the server with it: exit 0, 1, 2 as restart",
		func(set *pflag.FlagSet) { set.BoolVar(&asJSON, "json", false, "the verdict as JSON") },
		func(ctx context.Context, c *control.Client, out io.Writer) error {
			results, several, err := c.Each(ctx, control.Request{Do: control.DoSelfUpgrade})
			if err != nil {
				return &exit{2, err}
			}
			return verdicts(out, results, false, asJSON, several)
		})
}

// verdict writes what became of a swap, and gives the exit status for it.
func verdict(out io.Writer, r control.Result, begun, asJSON, several bool) (int, error) {
	name := ""
	if several {
		name = r.Server + ": "
	}
	switch {
	case r.Error != nil:
		complain(fmt.Errorf("%s%w", name, r.Error))
		return 2, nil
	case begun:
		return 0, nil
	case r.Verdict == nil:
		complain(fmt.Errorf("%sno verdict in the answer", name))
		return 2, nil
	}
	code := control.ExitCode(*r.Verdict)
	switch {
	case asJSON && several:
		return code, indented(out, r)
	case asJSON:
		return code, indented(out, r.Verdict)
	}
	if _, err := fmt.Fprint(out, name); err != nil {
		return code, err
	}
	return code, control.RenderVerdict(out, *r.Verdict)
}

func newReload() *cobra.Command {
	var all bool
	return talk("reload", "Have the server read its configuration again",
		func(set *pflag.FlagSet) {
			set.BoolVar(&all, "all", false, "all services of an upgrader that has several")
		},
		func(ctx context.Context, c *control.Client, _ io.Writer) error {
			if all {
				c = c.All()
			}
			results, _, err := c.Each(ctx, control.Request{Do: control.DoReload})
			for _, r := range results {
				if r.Error != nil {
					err = errors.Join(err, fmt.Errorf("%s: %w", r.Server, r.Error))
				}
			}
			return err
		})
}

func newStop() *cobra.Command {
	var now bool
	return talk("stop", "Stop the server and its upgrader, and wait for that",
		func(set *pflag.FlagSet) { set.BoolVar(&now, "now", false, "kill at once") },
		func(ctx context.Context, c *control.Client, _ io.Writer) error {
			all, several, err := c.For().Each(ctx, control.Request{Do: control.DoStatus})
			if err != nil {
				return err
			}
			id, idErr := process.Identity{}, process.ErrGone
			for _, r := range all {
				if r.Status != nil {
					id, idErr = process.Of(r.Status.Pid)
				}
			}
			if err := c.Stop(ctx, now); err != nil && !errors.Is(err, control.ErrLeft) {
				return err
			}
			if idErr != nil || several && c.Some() {
				return nil // it is gone already, or goes on with others
			}
			return id.Wait(ctx)
		})
}

func newEvents() *cobra.Command {
	return talk("events", "Print what happens from now on, a JSON line each", nil,
		func(ctx context.Context, c *control.Client, out io.Writer) error {
			e := json.NewEncoder(out)
			err := c.Events(ctx, func(ev control.Event) error { return e.Encode(ev) })
			if ctx.Err() != nil || errors.Is(err, control.ErrLeft) {
				return nil
			}
			return err
		})
}
