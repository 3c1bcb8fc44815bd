//go:build !unix

package main

import (
	"errors"
	"io"
)

var errStarterUnix = errors.New("start_server works on Unix only: on this system use upgrader -- COMMAND")

func (s *starter) run() error              { return errStarterUnix }
func (s *starter) stop() error             { return errStarterUnix }
func (s *starter) restart(io.Writer) error { return errStarterUnix }
