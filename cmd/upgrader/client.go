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

// client finds it.
func (w *where) client(ctx context.Context, set *pflag.FlagSet) (*control.Client, error) {
	if err := fromEnvironment(set, os.LookupEnv); err != nil {
		return nil, &exit{exitUsage, err}
	}
	dir := w.dir
	if dir == "" {
		r, err := state.Find(w.name)
		if err != nil {
			return nil, &exit{exitUsage, err}
		}
		dir = r.Dir
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c, err := control.Dial(ctx, dir)
	if errors.Is(err, control.ErrNotRunning) {
		return nil, &exit{exitUsage, fmt.Errorf("no upgrader answers in %s", dir)}
	}
	return c, err
}

// talk makes a command that talks to a running upgrader.
func talk(use, short string, flags func(*pflag.FlagSet), f func(ctx context.Context, c *control.Client, out io.Writer) error) *cobra.Command {
	var w where
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			c, err := w.client(ctx, cmd.Flags())
			if err == nil {
				err = f(ctx, c, cmd.OutOrStdout())
			}
			var e *exit
			if err != nil && !errors.As(err, &e) {
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
			st, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(st)
			}
			return control.Render(out, st, time.Now())
		})
}

func newRestart() *cobra.Command {
	return swapping("restart", "Swap the server: exit 0 committed, 1 rolled back, 2 failed", (*control.Client).Restart)
}

func newRollback() *cobra.Command {
	return swapping("rollback", "Swap back to what ran before the last commit", (*control.Client).Rollback)
}

// swapping makes a command that asks for a swap and exits with its verdict.
func swapping(use, short string, ask func(*control.Client, context.Context, control.RestartOptions) (control.Verdict, error)) *cobra.Command {
	var o control.RestartOptions
	var asJSON bool
	return talk(use, short,
		func(set *pflag.FlagSet) {
			set.BoolVar(&o.NoWait, "no-wait", false, "answer at once, without a verdict")
			set.BoolVar(&o.WaitProbation, "wait-probation", false, "answer at the end of probation rather than at the commit")
			set.BoolVar(&asJSON, "json", false, "the verdict as JSON")
		},
		func(ctx context.Context, c *control.Client, out io.Writer) error {
			v, err := ask(c, ctx, o)
			if err != nil {
				return &exit{2, err}
			}
			if o.NoWait {
				return nil
			}
			return tellVerdict(out, v, asJSON)
		})
}

// tellVerdict prints a verdict; its exit status is the error.
func tellVerdict(out io.Writer, v control.Verdict, asJSON bool) (err error) {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(v)
	} else {
		err = control.RenderVerdict(out, v)
	}
	if err != nil {
		return err
	}
	if code := control.ExitCode(v); code != 0 {
		return &exit{code, nil}
	}
	return nil
}

func newSelfUpgrade() *cobra.Command {
	var asJSON bool
	return talk("self-upgrade", "Replace the upgrader's own program by what its name means now, and swap the server with it: exit 0, 1, 2 as restart",
		func(set *pflag.FlagSet) { set.BoolVar(&asJSON, "json", false, "the verdict as JSON") },
		func(ctx context.Context, c *control.Client, out io.Writer) error {
			v, err := c.SelfUpgrade(ctx)
			if err != nil {
				return &exit{2, err}
			}
			return tellVerdict(out, v, asJSON)
		})
}

func newReload() *cobra.Command {
	return talk("reload", "Have the server read its configuration again", nil,
		func(ctx context.Context, c *control.Client, _ io.Writer) error { return c.Reload(ctx) })
}

func newStop() *cobra.Command {
	var now bool
	return talk("stop", "Stop the server and its upgrader, and wait for that",
		func(set *pflag.FlagSet) { set.BoolVar(&now, "now", false, "kill at once") },
		func(ctx context.Context, c *control.Client, _ io.Writer) error {
			st, err := c.Status(ctx)
			if err != nil {
				return err
			}
			id, idErr := process.Of(st.Pid)
			if err := c.Stop(ctx, now); err != nil && !errors.Is(err, control.ErrLeft) {
				return err
			}
			if idErr != nil {
				return nil // it is gone already
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
