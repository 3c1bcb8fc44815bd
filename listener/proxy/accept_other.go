//go:build !unix

package proxy

import (
	"errors"
	"net"
)

// passing errors: all but the end of the listener.
func passing(err error) bool { return !errors.Is(err, net.ErrClosed) }
