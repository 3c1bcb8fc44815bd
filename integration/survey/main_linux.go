package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options is what the flags say.
type options struct {
	Swaps        int
	Only         string
	only         *regexp.Regexp // nil: all
	Ways         string
	Out, JSON    string
	Bin          string
	Parallel     int
	Pace         float64
	SettleMax    time.Duration // 0: the upgrader's default
	ReadyTimeout time.Duration // as above
	Keep         bool
}

// The ways to run the upgrader.
const (
	asRoot      = "root"
	asNobody    = "nobody"
	inContainer = "container"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "survey: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var o options
	var row, way, role string
	f := flag.NewFlagSet("survey", flag.ExitOnError)
	f.IntVar(&o.Swaps, "swaps", 20, "how often each server is swapped")
	f.StringVar(&o.Only, "only", "", "only servers whose names match `NAME`, a regular expression")
	f.StringVar(&o.Ways, "ways", "root,nobody,container", "how the upgrader runs")
	f.StringVar(&o.Out, "out", "docs/servers.md", "the page; -: stdout")
	f.StringVar(&o.JSON, "json", "", "`FILE` for the rows as JSON too")
	f.StringVar(&o.Bin, "bin", "", "`DIR` with upgrader and guest, static and readable by everybody (default: they are built)")
	f.Float64Var(&o.Pace, "pace", 1, "`SHARE` of the usual rate at which clients ask")
	f.IntVar(&o.Parallel, "parallel", 1, "rows at a time")
	f.DurationVar(&o.SettleMax, "settle-max", 0, "given to the upgrader (default: its own)")
	f.DurationVar(&o.ReadyTimeout, "ready-timeout", 0, "given to the upgrader (default: its own)")
	f.BoolVar(&o.Keep, "keep", false, "keep the folders of rows")
	f.StringVar(&row, "row", "", "one row, in namespaces that were made for it; what the survey starts itself with")
	f.StringVar(&way, "way", asRoot, "the way of that row")
	f.StringVar(&role, "role", "", "be a server: sandbox, nested; what rows start")
	_ = f.Parse(args) // exits by itself
	if role != "" {
		return play(role, f.Args())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if row != "" {
		return runRow(ctx, o, row, way)
	}
	return survey(ctx, o)
}

// survey makes every row and writes the page.
func survey(ctx context.Context, o options) error {
	if os.Getuid() != 0 {
		return errors.New("needs root, to give each row namespaces of its own")
	}
	if o.Only != "" {
		var err error
		if o.only, err = regexp.Compile("(?i)" + o.Only); err != nil {
			return fmt.Errorf("-only: %w", err)
		}
	}
	if o.Pace <= 0 {
		return errors.New("-pace must be more than nothing")
	}
	ways := strings.Split(o.Ways, ",")
	for _, w := range ways {
		if !slices.Contains([]string{asRoot, asNobody, inContainer}, w) {
			return fmt.Errorf("-ways: no such way: %s", w)
		}
	}
	if o.Bin == "" {
		dir, err := os.MkdirTemp("", "svbin")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }() // temporary: what is left is the system's to clean
		if err := build(ctx, dir); err != nil {
			return err
		}
		o.Bin = dir
	}
	var err error
	if o.Bin, err = filepath.Abs(o.Bin); err != nil {
		return err
	}
	began := time.Now()
	rows := make([]Row, 0, 64)
	for _, w := range ways {
		chosen := slices.DeleteFunc(servers(), func(s server) bool { return !o.wants(s) || !s.runs(w) })
		if len(chosen) == 0 {
			continue
		}
		if w == inContainer {
			rows = append(rows, containerRows(ctx, o, chosen)...)
			continue
		}
		rows = append(rows, localRows(ctx, o, w, chosen)...)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.JSON != "" {
		text, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.JSON, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	page := render(o, rows, time.Since(began))
	if o.Out == "-" {
		_, err := os.Stdout.WriteString(page)
		return err
	}
	return os.WriteFile(o.Out, []byte(page), 0o644)
}

// wants reports whether -only leaves a server in.
func (o options) wants(s server) bool {
	return o.only == nil || o.only.MatchString(s.name)
}

// localRows runs rows in children of their own.
func localRows(ctx context.Context, o options, way string, chosen []server) []Row {
	return inTurns(o, chosen, func(_ int, s server) Row { return startRow(ctx, o, s, way) })
}

// inTurns makes rows, so many at a time, and tells of each.
func inTurns(o options, chosen []server, row func(int, server) Row) []Row {
	rows := make([]Row, len(chosen))
	turns := make(chan struct{}, max(1, o.Parallel))
	var all sync.WaitGroup
	for i, s := range chosen {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			rows[i] = row(i, s)
			fmt.Fprintf(os.Stderr, "%s\n", rows[i])
		})
	}
	all.Wait()
	return rows
}

// build puts upgrader and guest into dir, static, for any user to run.
func build(ctx context.Context, dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/",
		"github.com/upgrader/upgrader/cmd/upgrader", "github.com/upgrader/upgrader/integration/guest")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}
