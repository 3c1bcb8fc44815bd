//go:build !linux

package upgrader

import (
	"fmt"
	"os"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/process"
)

func readable(held *os.File) (*os.File, error) { return os.Open(held.Name()) }

func inheritMemory(process.Identity) (shmbridge.Inherited, error) {
	return shmbridge.Inherited{}, fmt.Errorf("upgrader: take a segment over: %w", shmbridge.ErrUnsupported)
}

func commandOf(int) string { return "" }
