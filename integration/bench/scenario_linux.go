package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/integration/lab"
)

// A scenario is measured by a process of its own.
type scenario struct {
	name    string
	measure func(*bench) error
}

func scenarios() []scenario {
	return []scenario{
		{"throughput", measureThroughput},
		{"swaps", measureSwaps},
		{"exclusive", measureExclusive},
		{"start-up", measureStartUp},
		{"memory", measureMemory},
		{"calls", measureCalls},
		{"proxy", measureProxy},
		{"segment", measureSegment},
		{"deploy", measureDeploy},
	}
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// roleEnv makes this program something else than the benchmark, orderEnv says
// what exactly.
const (
	roleEnv      = "BENCH_ROLE"
	orderEnv     = "BENCH_ORDER"
	roleScenario = "scenario"
	roleCalls    = "calls"
	roleOrigin   = "origin"
)

// order is what a process in a role is to do.
type order struct {
	Scenario string
	Dir      string // with the binaries; scratch folders are made there
	Amounts  amounts

	Address string // of roleCalls and roleOrigin
	Result  string // of roleCalls
}

func inRole(role string) int {
	var o order
	err := json.Unmarshal([]byte(os.Getenv(orderEnv)), &o)
	if err == nil {
		switch role {
		case roleScenario:
			err = inside(o)
		case roleCalls:
			err = timeCalls(o)
		case roleOrigin:
			err = serveOrigin(o)
		default:
			err = fmt.Errorf("no such role: %s", role)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s %s: %v\n", role, o.Scenario, err)
		return 1
	}
	return 0
}

// text is the order as it is handed down.
func (o order) text() string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	return string(text)
}

// runScenario has one measured by a process of its own: as root in a network
// namespace, where that is allowed.
func runScenario(ctx context.Context, o order) (*samples, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = from.Close() }() // only read
	namespaces := uintptr(0)
	if os.Getuid() == 0 {
		namespaces = lab.Allowed(unix.CLONE_NEWNET)
	}
	c := lab.Command(ctx, namespaces)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) } // it ends what it started
	c.WaitDelay = 2 * patience
	c.Env = append(c.Env, roleEnv+"="+roleScenario, orderEnv+"="+o.text())
	c.Stderr = os.Stderr
	c.ExtraFiles = []*os.File{to}
	c.SysProcAttr.Setpgid = true
	err = c.Start()
	_ = to.Close() // the child has it
	if err != nil {
		return nil, err
	}
	got := newSamples()
	decoded := json.NewDecoder(from).Decode(got)
	if err := c.Wait(); err != nil {
		return nil, err
	}
	return got, decoded
}

// patience is how long anything may take that is bound to happen.
const patience = 60 * time.Second

// inside measures one scenario and hands the samples up. Orphans of what it
// starts come to it, and at the end nothing of them is left.
func inside(o order) error {
	if err := lab.Settle(); err != nil {
		return err
	}
	unix.CloseOnExec(3)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	for _, s := range scenarios() {
		if s.name != o.Scenario {
			continue
		}
		b := &bench{order: o, ctx: ctx, samples: newSamples()}
		err := s.measure(b)
		if left := endDescendants(); left > 0 && err == nil {
			err = fmt.Errorf("%d processes were left", left)
		}
		if err != nil {
			return err
		}
		return json.NewEncoder(os.NewFile(3, "samples")).Encode(b.samples)
	}
	return fmt.Errorf("no such scenario")
}
