//go:build unix

package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// here is the place of this process.
func here() place {
	return place{uid: os.Geteuid(), run: "/run", own: os.Getenv("XDG_RUNTIME_DIR"), tmp: "/tmp"}
}

// ownerOf gives the uid that a file belongs to.
func ownerOf(info fs.FileInfo) int {
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

// checkWritable checks that files can be made in dir.
func checkWritable(dir string) error {
	switch err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); {
	case err == nil:
		return nil
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("state: %s is on a read-only file system: %w", dir, err)
	default:
		return fmt.Errorf("state: write to %s: %w", dir, err)
	}
}
