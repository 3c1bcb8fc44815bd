//go:build !linux

package launch

func roles() map[string]func() error { return nil }
