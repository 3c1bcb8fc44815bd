//go:build !linux

package launch

import (
	"io/fs"
	"os"
	"time"
)

func openHeld(path string) (*os.File, error) { return os.Open(path) }

// reopen opens the file that has the name of f now, if it is the same one.
func reopen(f *os.File) (*os.File, error) {
	again, err := os.Open(f.Name())
	if err != nil {
		return nil, err
	}
	held, err := f.Stat()
	if err == nil {
		var now fs.FileInfo
		if now, err = again.Stat(); err == nil && !os.SameFile(held, now) {
			err = &fs.PathError{Op: "open", Path: f.Name(), Err: fs.ErrNotExist}
		}
	}
	if err != nil {
		_ = again.Close() // nothing was written
		return nil, err
	}
	return again, nil
}

// numbers are not offered: os.SameFile compares what the system has.
func numbers(fs.FileInfo) (dev, ino uint64) { return 0, 0 }

// changeTime is not portable; size and modification time have to do.
func changeTime(fs.FileInfo) time.Time { return time.Time{} }
