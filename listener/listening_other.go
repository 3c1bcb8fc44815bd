//go:build !linux && !windows

package listener

import (
	"errors"
	"fmt"
)

func allListening() ([]Listening, error) {
	return nil, fmt.Errorf("listener: list who listens: %w", errors.ErrUnsupported)
}
