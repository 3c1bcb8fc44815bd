//go:build unix

// Command linked is floor with the libraries of the upgrader linked in: what they cost a start before a line of it runs.
package main

import (
	"os"
	"syscall"

	_ "github.com/spf13/cobra"
	_ "github.com/zeebo/xxh3"
	_ "go.uber.org/zap"
)

func main() {
	if len(os.Args) > 1 {
		_ = syscall.Exec(os.Args[1], os.Args[1:], os.Environ()) // it returns only when it failed
	}
	os.Exit(111)
}
