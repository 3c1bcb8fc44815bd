package winevents

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// readersLeave is how long a reader of a file may have it open.
const readersLeave = 2 * time.Second

// rename replaces a file that somebody may be reading at the moment: until it
// is closed, the system denies access to its name.
func rename(from, to string) error {
	for end := time.Now().Add(readersLeave); ; time.Sleep(5 * time.Millisecond) {
		err := os.Rename(from, to)
		busy := errors.Is(err, fs.ErrPermission) || errors.Is(err, windows.ERROR_SHARING_VIOLATION)
		if !busy || time.Now().After(end) {
			return err
		}
	}
}
