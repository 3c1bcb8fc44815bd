package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(inRole(role))
	}
	brief := flag.Bool("brief", false, "everything with tiny counts, in less than a minute: shows that it works, its figures mean little")
	out := flag.String("out", "", "write the page to `FILE.md`, its plot beside it as FILE.svg")
	only := flag.String("only", "", "run these `SCENARIOS` alone: "+strings.Join(scenarioNames(), ","))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o := options{amounts: usual(), command: "go run ./integration/bench", out: *out}
	if *brief {
		o.amounts, o.command, o.brief = brevity(), o.command+" -brief", true
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
		o.command += " -only " + *only
	}
	if *out != "" {
		o.command += " -out " + filepath.ToSlash(*out)
	}
	p, err := run(ctx, o, func(text string) { fmt.Fprintln(os.Stderr, text) })
	if err == nil {
		fmt.Print(p.markdown())
		err = p.write(*out)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// options say what is measured.
type options struct {
	amounts amounts
	only    []string // scenarios; nil: all
	command string   // that the page names
	brief   bool     // the page says so
	out     string   // where the page goes, for the name of its plot
}

// run measures everything and gives the page. progress is told what begins.
func run(ctx context.Context, o options, progress func(string)) (*page, error) {
	dir, err := os.MkdirTemp("/tmp", "upbench") // a short path, for unix sockets
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // temporary: what is left is the system's to clean
	progress("building")
	if err := build(ctx, dir); err != nil {
		return nil, err
	}
	p := &page{options: o, machine: describe(ctx), began: time.Now(), samples: newSamples()}
	for _, s := range scenarios() {
		if !o.wants(s.name) {
			continue
		}
		progress(s.name)
		got, err := runScenario(ctx, order{Scenario: s.name, Dir: dir, Amounts: o.amounts})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		p.samples.merge(got)
	}
	p.took = time.Since(p.began)
	return p, nil
}

func (o options) wants(scenario string) bool {
	for _, name := range o.only {
		if name == scenario {
			return true
		}
	}
	return o.only == nil
}

// build puts the upgrader, as a release is built, the guest and the floors into dir.
func build(ctx context.Context, dir string) error {
	for _, pkg := range []string{"cmd/upgrader", "integration/guest", "integration/bench/testdata/floor", "integration/bench/testdata/floor/linked"} {
		c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "github.com/upgrader/upgrader/"+pkg)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}
