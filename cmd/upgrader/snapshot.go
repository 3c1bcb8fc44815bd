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
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/control"
)

// exitUnsound is the exit status of verify when a snapshot is refused.
const exitUnsound = 1

// snapshots is one `upgrader snapshot` command.
type snapshots struct {
	where  where
	backup string
	json   bool

	service string // of a fleet
}

func newSnapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot", Short: "Take, list, verify and restore snapshots of the shared segment", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return &exit{exitUsage, errors.New("snapshot: want create, list, verify or restore")}
		},
	}
	cmd.AddCommand(
		snapshotCommand("create", "Take one of the segment as it is", cobra.NoArgs, false, (*snapshots).create),
		snapshotCommand("list", "List them", cobra.NoArgs, true, (*snapshots).list),
		snapshotCommand("verify [NUMBER|FILE...]", "Compare all checksums: exit 0 all sound, 1 one refused", cobra.ArbitraryArgs, true, (*snapshots).verify),
		snapshotCommand("restore NUMBER", "Stop the server, put the segment back as it was, start the server: exit as of restart", cobra.ExactArgs(1), false, (*snapshots).restore),
	)
	return cmd
}

func snapshotCommand(use, short string, args cobra.PositionalArgs, offline bool, f func(*snapshots, context.Context, *cobra.Command, []string) error) *cobra.Command {
	var s snapshots
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			err := f(&s, ctx, cmd, args)
			var e *exit
			if err != nil && !errors.As(err, &e) {
				return &exit{exitSystem, err}
			}
			return err
		},
	}
	s.where.register(cmd.Flags())
	cmd.Flags().StringVar(&s.service, "service", "", "the segment of this service, by name or `ID`, where the upgrader has several")
	cmd.Flags().BoolVar(&s.json, "json", false, "as JSON")
	if offline {
		cmd.Flags().StringVar(&s.backup, "backup-dir", "", "those in `DIR`, without asking an upgrader")
	}
	return cmd
}

// ask asks the running upgrader.
func (s *snapshots) ask(ctx context.Context, cmd *cobra.Command, a control.Args) (control.Answer, error) {
	var services []string
	if s.service != "" {
		services = append(services, s.service)
	}
	c, err := s.where.client(ctx, cmd.Flags(), services...)
	if err != nil {
		return control.Answer{}, err
	}
	return c.Snapshot(ctx, a)
}

func (s *snapshots) create(ctx context.Context, cmd *cobra.Command, _ []string) error {
	a, err := s.ask(ctx, cmd, control.Args{Snapshot: control.SnapshotCreate})
	if err != nil {
		return err
	}
	return s.print(cmd.OutOrStdout(), a.Snapshots)
}

func (s *snapshots) list(ctx context.Context, cmd *cobra.Command, _ []string) error {
	all, err := s.find(ctx, cmd)
	if err != nil {
		return err
	}
	return s.print(cmd.OutOrStdout(), all)
}

func (s *snapshots) restore(ctx context.Context, cmd *cobra.Command, args []string) error {
	n, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil || n == 0 {
		return &exit{exitUsage, fmt.Errorf("snapshot restore %s: want a number that upgrader snapshot list shows", args[0])}
	}
	a, err := s.ask(ctx, cmd, control.Args{Snapshot: control.SnapshotRestore, Number: n})
	switch {
	case err != nil:
		return &exit{2, err}
	case a.Verdict == nil:
		return &exit{2, errors.New("no verdict in the answer")}
	case s.json:
		err = indented(cmd.OutOrStdout(), a.Verdict)
	default:
		err = control.RenderVerdict(cmd.OutOrStdout(), *a.Verdict)
	}
	if code := control.ExitCode(*a.Verdict); err == nil && code != 0 {
		return &exit{code, nil}
	}
	return err
}

// verify reads all of the named snapshots, of all when none is named.
func (s *snapshots) verify(ctx context.Context, cmd *cobra.Command, args []string) error {
	paths := slices.Clone(args)
	if len(args) == 0 || slices.ContainsFunc(args, isNumber) {
		all, err := s.find(ctx, cmd)
		if err != nil {
			return err
		}
		if paths, err = choose(all, args); err != nil {
			return err
		}
	}
	bad := false
	for _, p := range paths {
		snap, err := shmbridge.Verify(ctx, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			bad = true
			fmt.Fprintln(cmd.OutOrStdout(), "refused:", oneLine(err.Error()))
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "sound: %s: %s, %d bytes, %v\n", p, snap.Identity, snap.Size, snap.State)
	}
	if bad {
		return &exit{exitUnsound, nil}
	}
	return nil
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 64)
	return err == nil
}

// choose gives the paths of the snapshots that args name by number or path,
// of all when there are no args.
func choose(all []control.Snapshot, args []string) ([]string, error) {
	var paths []string
	for _, arg := range args {
		if !isNumber(arg) {
			paths = append(paths, arg)
			continue
		}
		n := len(paths)
		for _, snap := range all {
			if strconv.FormatUint(snap.Number, 10) == arg {
				paths = append(paths, snap.Path)
			}
		}
		if len(paths) == n {
			return nil, &exit{exitUsage, fmt.Errorf("there is no snapshot %s", arg)}
		}
	}
	if len(args) == 0 {
		for _, snap := range all {
			paths = append(paths, snap.Path)
		}
	}
	return paths, nil
}

// find gives all snapshots, of the running upgrader's segment or of a directory.
func (s *snapshots) find(ctx context.Context, cmd *cobra.Command) ([]control.Snapshot, error) {
	if s.backup == "" {
		a, err := s.ask(ctx, cmd, control.Args{Snapshot: control.SnapshotList})
		return a.Snapshots, err
	}
	if _, err := os.ReadDir(s.backup); err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(filepath.Clean(s.backup), "*.snap"))
	if err != nil {
		return nil, err
	}
	all := []control.Snapshot{}
	for _, p := range paths {
		snap, err := shmbridge.ReadSnapshot(p)
		one := control.Snapshot{
			Number: snap.Number, Path: p, Segment: snap.Identity, Size: snap.Size, Time: snap.Time,
			State: snap.State.String(), Generation: int(snap.Generation), Schema: snap.Schema, Saves: snap.Saves,
		}
		if err != nil {
			one.Error = err.Error()
		}
		all = append(all, one)
	}
	return all, nil
}

func (s *snapshots) print(out io.Writer, all []control.Snapshot) error {
	if s.json {
		return indented(out, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "no snapshots")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tTIME\tSEGMENT\tSIZE\tSTATE\tSCHEMA\tSAVES\tPATH")
	for _, snap := range all {
		if snap.Error != "" {
			fmt.Fprintf(w, "%d\trefused: %s\t\t\t\t\t\t%s\n", snap.Number, oneLine(snap.Error), snap.Path)
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%d\t%d\t%s\n", snap.Number, snap.Time.Format(time.RFC3339), snap.Segment, snap.Size, snap.State, snap.Schema, snap.Saves, snap.Path)
	}
	return w.Flush()
}

func indented(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
