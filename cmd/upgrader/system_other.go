//go:build !windows

package main

import (
	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/upgrader"
)

const defaultDialects = "systemd,server-starter"

// systemFlags are those of one system: none.
type systemFlags struct{}

func (*systemFlags) register(*pflag.FlagSet)      {}
func (*systemFlags) parse(*upgrader.Config) error { return nil }

// strategy has nothing to choose: see parseMemory.
func (*systemFlags) strategy(*flags) {}

// section has nothing to take: sections are Windows'.
func (*systemFlags) section(*flags, *upgrader.Config) error { return nil }
