package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/upgrader/upgrader/integration/load"
)

// status is what a row reads of `status --json`.
type status struct {
	State       string
	Generations []generation
	Claims      []struct{ Address string }
}

type generation struct {
	Number, Pid int
	State       string
}

// measure swaps a server that is starting under load, and stops it.
func measure(ctx context.Context, o options, s server, h host, r *Row) error {
	st, err := await(ctx, h, "the server serves", func(st status) bool {
		return st.State == "serving" && slices.ContainsFunc(st.Generations, func(g generation) bool { return g.State == "serving" })
	})
	if err != nil {
		return err
	}
	for _, c := range st.Claims {
		r.Claims = append(r.Claims, c.Address)
	}
	c := clients{host: h}
	defer c.stop(r) // again, unless it went well
	for _, k := range s.loads {
		k.config.Rate *= o.Pace
		if err := c.start(k); err != nil {
			return err
		}
	}
	if err := c.awaitMore(ctx, 20); err != nil {
		return err
	}
	for range o.Swaps {
		if err := swap(ctx, h, r); err != nil {
			return err
		}
		if err := c.awaitMore(ctx, 10); err != nil {
			return err
		}
		if _, err := await(ctx, h, "one generation is left", func(st status) bool { return len(st.Generations) == 1 }); err != nil {
			return err
		}
	}
	if err := c.awaitMore(ctx, 20); err != nil {
		return err
	}
	if s.note != nil {
		if st, err = look(ctx, h); err == nil && len(st.Generations) == 1 {
			r.Notes = append(r.Notes, s.note(st.Generations[0].Pid))
		}
	}
	c.stop(r)
	r.Exit, err = h.stop()
	r.Warnings, r.Hurried = warnings(h.log()), strings.Count(h.log(), "not quiet within settle-max")
	return err
}

// numbered is what makes equal reasons different.
var numbered = regexp.MustCompile(`(generation |pid )[0-9]+`)

// swap makes one and takes down its verdict.
func swap(ctx context.Context, h host, r *Row) error {
	limit, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	out, complaint, _, err := h.call(limit, "restart", "--json")
	if err != nil {
		return fmt.Errorf("restart: %w: %s%s", err, out, complaint)
	}
	var v struct {
		Verdict, Reason string
		Took            time.Duration `json:"took_ns"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		return fmt.Errorf("restart: %w: %s%s", err, out, complaint)
	}
	r.Swaps++
	switch v.Verdict {
	case "committed":
		r.Committed++
		r.Took = append(r.Took, v.Took)
	case "rolled-back":
		r.RolledBack++
	default:
		r.Failed++
	}
	if reason := numbered.ReplaceAllString(v.Reason, "${1}N"); v.Verdict != "committed" && !slices.Contains(r.Reasons, reason) {
		r.Reasons = append(r.Reasons, reason)
	}
	return nil
}

func look(ctx context.Context, h host) (status, error) {
	var st status
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, complaint, code, err := h.call(limit, "status", "--json")
	switch {
	case err != nil:
		return st, err
	case code != 0:
		return st, fmt.Errorf("status exited with %d: %s", code, complaint)
	}
	return st, json.Unmarshal([]byte(out), &st)
}

// await waits until the status is as wanted.
func await(ctx context.Context, h host, what string, wanted func(status) bool) (status, error) {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(200 * time.Millisecond) // each look is a process
	defer tick.Stop()
	for {
		st, err := look(ctx, h)
		if err == nil && wanted(st) {
			return st, nil
		}
		if gone := h.ended(); gone != nil {
			return st, fmt.Errorf("%s: %w", what, gone)
		}
		if time.Now().After(deadline) {
			return st, fmt.Errorf("%s: still not after %v: %+v, %v", what, patience, st, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

// warnings are the different messages that the upgrader warned with.
func warnings(log string) []string {
	var found []string
	for line := range strings.Lines(log) {
		_, rest, is := strings.Cut(line, "\tWARN\tupgrader\t")
		if !is {
			continue
		}
		what, fields, _ := strings.Cut(strings.TrimSpace(rest), "\t")
		var f struct{ Message, Error string }
		_ = json.Unmarshal([]byte(fields), &f) // without fields, what is all there is
		text := strings.Join(slices.DeleteFunc([]string{what, f.Message, f.Error}, func(s string) bool { return s == "" }), ": ")
		text = numbered.ReplaceAllString(text, "${1}N")
		if what != "rolled-back" && !slices.Contains(found, text) { // verdicts have their own place
			found = append(found, text)
		}
	}
	return found
}

// kind is one load on a server.
type kind struct {
	name   string // newConnections, keepAlive, datagrams
	config load.Config
	speak  speaker // nil: what load speaks
}

// The loads.
const (
	newConnections = "new"
	keepAlive      = "keep-alive"
	datagrams      = "datagrams"
)

// clients are the loads of a row.
type clients struct {
	host    host
	running []*running
}

type running struct {
	kind kind
	load *load.Load
	told *told
}

func (c *clients) start(k kind) error {
	one := &running{kind: k, told: &told{}}
	k.config.Dial = c.host.dial()
	if k.speak != nil {
		k.config.Dial = one.told.dialer(k.config.Dial, k.speak)
	}
	var err error
	if one.load, err = load.Start(k.config); err == nil {
		c.running = append(c.running, one)
	}
	return err
}

// awaitMore waits for n more good answers to each load.
func (c *clients) awaitMore(ctx context.Context, n int) error {
	limit, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not within %v", patience))
	defer cancel()
	watch := time.NewTicker(time.Second)
	defer watch.Stop()
	end := make(chan struct{})
	var watching sync.WaitGroup
	defer watching.Wait()
	defer close(end)
	limit, gone := context.WithCancelCause(limit)
	defer gone(nil)
	watching.Go(func() {
		for {
			select {
			case <-watch.C:
				if err := c.host.ended(); err != nil {
					gone(err)
				}
			case <-end:
				return
			}
		}
	})
	for _, one := range c.running {
		if err := one.load.AwaitMore(limit, n); err != nil {
			err = context.Cause(limit)
			return fmt.Errorf("%s: %d more answers: %w: %v", one.kind.name, n, err, one.load.Now())
		}
	}
	return nil
}

// stop ends the loads; their accounts go into r.
func (c *clients) stop(r *Row) {
	results := make([]load.Result, len(c.running))
	for i, one := range c.running {
		results[i] = one.load.Stop()
	}
	for i, one := range c.running {
		r.add(one.kind, results[i], one.told)
	}
	c.running = nil
}
