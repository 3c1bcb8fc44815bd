package main

import "syscall"

// newSession: Windows has nothing like it.
func newSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// hang is for systems with SIGSTOP.
func hang() {}
