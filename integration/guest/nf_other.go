//go:build !linux

package main

import (
	"fmt"
	"os"
)

// pluginLoader is a name under which the guest behaves otherwise, on Linux.
const pluginLoader = "NFPluginLoader"

func asPluginLoader([]string) int {
	fmt.Fprintln(os.Stderr, "guest: System V segments are Linux's")
	return 1
}
