//go:build !windows

package proxy

import "syscall"

// hold has nothing to do: an address is its first binder's alone.
func hold(string, string, syscall.RawConn) error { return nil }
