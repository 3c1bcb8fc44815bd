//go:build !linux

package main

import (
	"errors"
	"io"
)

// examine has nothing to look at: what it asks about is Linux's.
func examine(io.Writer) error {
	return &exit{exitSystem, errors.New("doctor: there is nothing to examine on this system yet")}
}
