//go:build !linux

package shmbridge

import (
	"errors"
	"testing"
)

func systemRoles() map[string]func([]string) error { return nil }

func TestUnsupportedHere(t *testing.T) {
	spec, err := ParseSpec("memfd:x,size=1M")
	must(t, err)
	if _, err := Open(spec, Config{}); !errors.Is(err, ErrUnsupported) {
		t.Fatal(err)
	}
}
