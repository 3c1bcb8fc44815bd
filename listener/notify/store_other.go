//go:build !linux

package notify

import (
	"os"
	"syscall"
)

type hangups struct{}

func newHangups(func(int32)) (*hangups, error) { return nil, errUnsupported }

func (*hangups) add(*os.File, int32) (bool, error) { return false, errUnsupported }

func (*hangups) remove(*os.File) {}

func (*hangups) close() error { return nil }

// Inode is not supported on this system.
func Inode(syscall.Conn) (dev, ino uint64, err error) { return 0, 0, errUnsupported }

func duplicate(*os.File) (*os.File, error) { return nil, errUnsupported }

func sameDescription(*os.File, *os.File) bool { return false }
