//go:build !linux

package intercept

import (
	"context"
	"errors"
	"fmt"
	"os"
)

var errUnsupported = fmt.Errorf("intercept: bind takeover needs Linux: %w", errors.ErrUnsupported)

// Serve is not supported on this system.
func Serve(context.Context, *os.File, Handler) error { return errUnsupported }

// Serve is not supported on this system.
func (s Server) Serve(context.Context, *os.File) error { return errUnsupported }

// Free says that there are no filters here.
func Free() error { return errUnsupported }

// Supported says that takeover needs Linux.
func Supported() error { return errUnsupported }

// Probe tells that takeover needs Linux.
func Probe(int) []Check {
	return []Check{{
		Name:        "bind takeover",
		Required:    true,
		Consequence: "This system cannot take over a server's own bind: use --listen with a dialect, or --proxy.",
		Err:         errUnsupported,
	}}
}
