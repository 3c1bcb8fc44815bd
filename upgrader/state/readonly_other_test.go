//go:build !linux

package state

import "errors"

func playReadOnly(string) error { return errors.ErrUnsupported }

func playFull(string) error { return errors.ErrUnsupported }
