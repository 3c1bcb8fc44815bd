//go:build unix

package main

import "syscall"

func newSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// hang makes the whole process stand still.
func hang() { _ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP) } // it is ourselves
