//go:build !linux

package shmbridge

// gently runs f: threads have no priority of their own that is known here.
func gently(f func()) { f() }
