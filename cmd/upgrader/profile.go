package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/nfshm"
	"github.com/upgrader/upgrader/upgrader/process"
)

// profileNFShm is the name of the one profile that there is.
const profileNFShm = "nfshm"

// nfQuit has NFPluginLoader quit and keep the segment. The number is Linux's;
// on Windows nobody sends it.
const nfQuit = syscall.Signal(31)

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
	case len(f.listen) > 0:
		return errors.New("--listen: NFPluginLoader takes no sockets: it binds by itself")
	case c.Strategy != upgrader.Exclusive:
		return errors.New("--strategy overlap: two servers must not write one segment: --profile nfshm is exclusive")
	}
	c.Command = command.Args
	if err := f.system.nfshm(f, c, command); err != nil {
		return err
	}
	for to, value := range map[*string]string{&c.Name: command.Name(), &c.ID: command.ID, &c.Zone: command.Zone(), &c.Type: command.Server} {
		if *to == "" {
			*to = value
		}
	}
	if !f.given("name") {
		c.Server = command.Server
	}
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
