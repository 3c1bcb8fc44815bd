//go:build !windows

package winevents

import "os"

func rename(from, to string) error { return os.Rename(from, to) }
