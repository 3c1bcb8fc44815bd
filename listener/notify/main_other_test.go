//go:build !linux

package notify

import (
	"errors"
	"testing"
)

// play: nobody can be heard here.
func play(string) int { return 1 }

func TestUnsupported(t *testing.T) {
	if _, err := Listen(private(t, "s")); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := NewStore(StoreConfig{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
