//go:build !linux

package notify

import "os"

type hangups struct{}

func newHangups(func(int32)) (*hangups, error) { return nil, errUnsupported }

func (*hangups) add(*os.File, int32) (bool, error) { return false, errUnsupported }

func (*hangups) remove(*os.File) {}

func (*hangups) close() error { return nil }

func duplicate(*os.File) (*os.File, error) { return nil, errUnsupported }

func sameDescription(*os.File, *os.File) bool { return false }
