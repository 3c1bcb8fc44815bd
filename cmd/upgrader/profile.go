package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/nfshm"
	"github.com/upgrader/upgrader/upgrader/process"
)

// profileNFShm is the name of the one profile that there is.
const profileNFShm = "nfshm"

// NFPluginLoader's signals: quit and keep the segment; read the configuration
// again. Its numbers are Linux's.
const (
	nfQuit   = syscall.Signal(31)
	nfReload = syscall.Signal(12)
)

// nfSwapTimeout is how long NFPluginLoader may take to leave the segment: its
// own --Restart gives up after as long.
const nfSwapTimeout = 10 * time.Second

// preset fills in what a profile presets: every flag that was given stands.
func (f *flags) preset(c *upgrader.Config) error {
	switch f.profile {
	case "":
		return nil
	case profileNFShm:
	default:
		return fmt.Errorf("--profile %s: want %s", f.profile, profileNFShm)
	}
	command, err := nfshm.Parse(c.Command)
	if err != nil {
		return fmt.Errorf("--profile nfshm: %w", err)
	}
	switch {
	case f.shm != "":
		return errors.New("--shm: --profile nfshm computes the segment of --ID")
	case len(f.listen) > 0:
		return errors.New("--listen: NFPluginLoader takes no sockets: --profile nfshm takes its bind over")
	case c.Intercept == upgrader.InterceptOff:
		return errors.New("--intercept off: --profile nfshm takes the bind of NFPluginLoader over")
	case c.Strategy != upgrader.Exclusive:
		return errors.New("--strategy overlap: two servers must not write one segment: --profile nfshm is exclusive")
	}
	c.Command = command.Args
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
	for to, value := range map[*string]string{&c.Name: command.Name(), &c.ID: command.ID, &c.Zone: command.Zone(), &c.Type: command.Server} {
		if *to == "" {
			*to = value
		}
	}
	if !f.given("name") {
		c.Server = command.Server
	}
	key := command.Key()
	c.Memory.Spec = shmbridge.Spec{Kind: shmbridge.SysV, Key: key}
	c.Memory.Made = true
	c.Memory.Inspect = func(segment []byte) error { return nfshm.Inspect(segment, key) }
	c.Outsiders, err = outsiders(c, command)
	return err
}

// outsiders say how other processes of the command are known.
func outsiders(c *upgrader.Config, command nfshm.Command) (*upgrader.Outsiders, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	path := command.Args[0]
	if held, err := launch.HoldIn(c.Dir, path); err == nil { // else it is told when it is started
		path = held.Name
		_ = held.Close() // only its name is of interest: it may be another file with each swap
	}
	return &upgrader.Outsiders{
		PidFile: filepath.Join(dir, command.PidFile()),
		Same:    func(id process.Identity) (bool, error) { return command.Same(id, path) },
		Args:    nfshm.Rewrite,
	}, nil
}
