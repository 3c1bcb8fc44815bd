//go:build !linux

package upgrader

import "github.com/upgrader/upgrader/upgrader/launch"

// bindFilter is nothing: a server's bind can be taken over on Linux alone.
func bindFilter(int) (filter []launch.Instruction, flags int, learns bool) { return nil, 0, false }
