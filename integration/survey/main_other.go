//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "survey: needs Linux: other systems cannot take over a bind")
	os.Exit(1)
}
