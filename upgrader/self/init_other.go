//go:build !linux

package self

import (
	"errors"
	"fmt"
)

func closeOnExec(int) {}

// Init is for Linux.
func Init(...Passed) (int, error) {
	return 0, fmt.Errorf("self: an init of our own: %w", errors.ErrUnsupported)
}
