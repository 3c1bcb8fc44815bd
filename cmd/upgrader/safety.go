package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/ready"
)

// safety are the flags that say how a new version is tried out.
type safety struct{ health, canary string }

func (f *safety) register(set *pflag.FlagSet, c *upgrader.Config) {
	set.DurationVar(&c.Probation, "probation", c.Probation, "after a commit: a crash of the successor rolls back; 0: off")
	set.StringVar(&f.health, "health", "", "checked every second on probation and while a canary has a share, `SPEC`: http=URL, tcp=ADDR or exec=CMD")
	set.DurationVar(&c.HealthTimeout, "health-timeout", c.HealthTimeout, "of one check")
	set.BoolVar(&c.Warm, "warm", false, "the predecessor keeps running until probation ends: a rollback starts nothing")
	set.StringVar(&f.canary, "canary", "", "`STEPS` of each swap, as in 5%,25%,100%: shares of the new connections for the successor")
	set.DurationVar(&c.Canary.Step, "canary-step", c.Canary.Step, "how long each share is kept")
	set.BoolVar(&c.Watch, "watch", false, "swap when the command's file is replaced")
}

func (f *safety) parse(c *upgrader.Config) error {
	if f.health != "" {
		h, err := ready.Parse(f.health)
		if err != nil {
			return fmt.Errorf("--health: %w", err)
		}
		if h.Kind != ready.HTTP && h.Kind != ready.TCP && h.Kind != ready.Exec {
			return fmt.Errorf("--health %s: want http=URL, tcp=ADDR or exec=CMD", f.health)
		}
		c.Health = &h
	}
	if c.HealthTimeout <= 0 {
		return errors.New("--health-timeout must be more than nothing")
	}
	var err error
	if c.Canary.Steps, err = shares(f.canary); err != nil {
		return err
	}
	if c.Canary.Step <= 0 {
		return errors.New("--canary-step must be more than nothing")
	}
	return nil
}

// shares reads the value of --canary.
func shares(text string) ([]int, error) {
	if text == "" {
		return nil, nil
	}
	steps, err := control.ParseShares(text)
	if err != nil {
		return nil, fmt.Errorf("--canary: %w", err)
	}
	return steps, nil
}

// canary are the flags of `upgrader restart` that say how the successor comes
// to serve.
type canary struct {
	steps string
	step  time.Duration
}

func (f *canary) register(set *pflag.FlagSet) {
	set.StringVar(&f.steps, "canary", "", "`STEPS` as in 5%,25%,100%: shares of the new connections for the successor (default: as the upgrader was started)")
	set.DurationVar(&f.step, "step", 0, "how long each share is kept (default: as the upgrader was started, else 10s)")
}

func (f *canary) parse(o *control.RestartOptions) (err error) {
	if o.Canary, err = shares(f.steps); err != nil {
		return &exit{exitUsage, err}
	}
	if o.Step = f.step; o.Step < 0 || o.Step > 0 && o.Canary == nil {
		return &exit{exitUsage, errors.New("--step is how long a share is kept: more than nothing, and only with --canary")}
	}
	return nil
}
