//go:build !unix

package main

import (
	"errors"
	"os"
)

// background is --daemon, which Windows has services for.
type background struct{}

func newBackground() *background { return &background{} }

func (*background) inside() bool { return false }

func (*background) cameUp(int) {}

func (*background) start() error {
	return &exit{exitUsage, errors.New("--daemon: not on this system: let it be run as a service")}
}

// redirect cannot be had here: our own output stays where it is.
func redirect(*os.File, int) error { return errors.ErrUnsupported }
