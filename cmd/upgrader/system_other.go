//go:build !windows

package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/nfshm"
)

const defaultDialects = "systemd,server-starter"

// systemFlags are those of one system: none.
type systemFlags struct{}

func (*systemFlags) register(*pflag.FlagSet)              {}
func (*systemFlags) parse(*flags, *upgrader.Config) error { return nil }

// strategy has nothing to choose: see parseMemory.
func (*systemFlags) strategy(*flags) {}

// nfReload has NFPluginLoader read its configuration again. The number is
// Linux's.
const nfReload = syscall.Signal(12)

// nfSwapTimeout is how long NFPluginLoader may take to leave the segment: its
// own --Restart gives up after as long.
const nfSwapTimeout = 10 * time.Second

// nfshm presets the segment, and how its server is asked.
func (*systemFlags) nfshm(f *flags, c *upgrader.Config, command nfshm.Command) error {
	switch {
	case f.shm != "":
		return errors.New("--shm: --profile nfshm computes the segment of --ID")
	case c.Intercept == upgrader.InterceptOff:
		return errors.New("--intercept off: --profile nfshm takes the bind of NFPluginLoader over")
	}
	if !f.given("stop-timeout") {
		c.StopTimeout = 0
		if !f.given("drain-timeout") {
			c.SwapTimeout = nfSwapTimeout
		}
	}
	if !f.given("swap-signal") {
		c.SwapSignal = nfQuit
	}
	if !f.given("reload-signal") {
		c.ReloadSig = nfReload
	}
	key := command.Key()
	c.Memory.Spec = shmbridge.Spec{Kind: shmbridge.SysV, Key: key}
	c.Memory.Made = true
	c.Memory.Inspect = func(segment []byte) error { return nfshm.Inspect(segment, key) }
	return nil
}

// memory refuses what another system has.
func (*systemFlags) memory(f *flags, m *upgrader.Memory) error {
	if m.Spec.Kind == shmbridge.Section {
		return fmt.Errorf("--shm %s: sections are Windows'", f.shm)
	}
	return nil
}
