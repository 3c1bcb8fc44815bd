package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// sends asks for a swap by signal, which is how all of them can be asked.
func sends(sig syscall.Signal) func(*bench, *server) error {
	return func(_ *bench, s *server) error { return s.signal(sig) }
}

// phased asks by command, for the phases in the verdict.
func phased(scenario, name string) func(*bench, *server) error {
	return func(b *bench, s *server) error { return b.restart(scenario+"/"+name, s) }
}

// measureSwaps swaps the upgrader's servers and its peers' under the same load.
func measureSwaps(b *bench) error {
	warm := []string{"-warm-up", b.Amounts.WarmUp.String()}
	guest, nginx := b.bareGuest(warm...), b.nginx()
	named := func(r recipe, name string) recipe { r.name = name; return r }
	swappers := []*swapper{
		{recipe: named(guest, besideGuest), beside: &guest},
		{recipe: b.listening(nil, warm...), swap: sends(syscall.SIGUSR2)},
		{recipe: b.binding(nil, warm...), swap: sends(syscall.SIGUSR2)},
		{recipe: b.starting(warm...), swap: sends(syscall.SIGHUP)},
		{recipe: named(guest, stopThenStart), swap: stopAndStart("swaps")},
		{recipe: named(nginx, besideNginx), beside: &nginx},
		{recipe: b.upgradedNginx(), swap: sends(syscall.SIGUSR2)},
		{recipe: nginx, swap: sends(syscall.SIGHUP)},
	}
	return b.swapInTurns("swaps", swappers, b.Amounts.SwapRounds, b.Amounts.SwapsEach)
}

// measureExclusive compares a swap without overlap to the server's own stop
// and start.
func measureExclusive(b *bench) error {
	warm := []string{"-warm-up", b.Amounts.WarmUp.String()}
	alone := b.bareGuest(warm...)
	alone.name = stopThenStart
	settling, bold := b.listening([]string{"--strategy", "exclusive"}, warm...), b.listening([]string{"--strategy", "exclusive", "--settle", "0"}, warm...)
	settling.name, bold.name = exclusive, exclusiveBare
	return b.swapInTurns("exclusive", []*swapper{
		{recipe: alone, swap: stopAndStart("exclusive")},
		{recipe: settling, swap: phased("exclusive", exclusive)},
		{recipe: bold, swap: phased("exclusive", exclusiveBare)},
	}, b.Amounts.Exclusive, 1)
}

// swapInTurns has each swap a few times, one after the other, round by round.
func (b *bench) swapInTurns(scenario string, swappers []*swapper, rounds, each int) error {
	var present []*swapper
	for _, w := range swappers {
		if why := w.missing(); why != "" {
			b.samples.Missing[scenario+"/"+w.name] = why
			continue
		}
		var err error
		if w.server, err = b.serve(w.recipe); err != nil {
			return err
		}
		present = append(present, w)
	}
	for range rounds {
		for _, w := range present {
			for range each {
				if b.ctx.Err() != nil {
					return b.ctx.Err()
				}
				if err := b.window(scenario, w); err != nil {
					return err
				}
			}
		}
	}
	for _, w := range present {
		if err := b.finish(scenario, w); err != nil {
			return err
		}
	}
	return nil
}

// restart swaps by command, for the phases in the verdict.
func (b *bench) restart(at string, s *server) error {
	c := exec.CommandContext(b.ctx, b.upgrader(), "restart", "--state-dir", s.state, "--json")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return fmt.Errorf("swap %s: %w\n%s%s", s.name, err, out.Bytes(), errs.Bytes())
	}
	var verdict struct {
		Phases []struct {
			Name     string        `json:"name"`
			Duration time.Duration `json:"duration_ns"`
		} `json:"phases"`
	}
	if err := json.Unmarshal(out.Bytes(), &verdict); err != nil {
		return fmt.Errorf("verdict of %s: %w", s.name, err)
	}
	for _, p := range verdict.Phases {
		b.samples.add(at+"/phase "+p.Name, millis(p.Duration))
	}
	return nil
}
