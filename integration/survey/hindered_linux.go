package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// hindered are servers whose bind is hard to take over.
func hindered() []server {
	self := func(p place) (string, error) { return p.copy("/proc/self/exe", "survey", 0, 0o755) }
	return []server{
		{
			name: "a server with a seccomp listener of its own", fallback: true,
			command: func(_ context.Context, p place) ([]string, error) {
				path, err := self(p)
				return []string{path, "-role", "sandbox", address}, err
			},
		},
		{
			name: "Go, Shutdown, below an outer seccomp listener", fallback: true,
			wrapper: func(p place) ([]string, error) {
				path, err := self(p)
				return []string{path, "-role", "nested", "--"}, err
			},
			command: func(_ context.Context, p place) ([]string, error) { return []string{p.guest, "-http", address}, nil },
		},
		{
			// As root it belongs to somebody else, as nobody to root: either
			// way it would not run as its upgrader does.
			name: "Go, Shutdown, setuid",
			command: func(_ context.Context, p place) ([]string, error) {
				owner := 1
				if p.uid != 0 {
					owner = 0
				}
				path, err := p.copy(p.guest, "setuid", owner, 0o755|os.ModeSetuid)
				return []string{path, "-http", address}, err
			},
			note: func(pid int) string { return "It served as uid " + effective(pid) },
		},
	}
}

// effective is the user that a process acts as.
func effective(pid int) string {
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(line, "Uid:"); is {
			if f := strings.Fields(rest); len(f) > 1 {
				return f[1]
			}
		}
	}
	return "unknown"
}
