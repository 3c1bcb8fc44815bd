//go:build !linux

package main

// unmapProgram does nothing: on this system it is left to the kernel.
func unmapProgram() {}
