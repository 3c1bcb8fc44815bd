package tail

import (
	"os"

	"golang.org/x/sys/unix"
)

// collapseRange takes the first n bytes out of f (Linux 3.15; ext4, XFS,
// F2FS). n must be a multiple of the block size and must not reach the end.
func collapseRange(f *os.File, n int64) error {
	return fallocate(f, unix.FALLOC_FL_COLLAPSE_RANGE, 0, n)
}

// punchHole makes n bytes from offset on a hole (Linux 2.6.38; nearly every
// local system, tmpfs and overlayfs too).
func punchHole(f *os.File, offset, n int64) error {
	return fallocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, n)
}

func fallocate(f *os.File, mode uint32, offset, n int64) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Control(func(fd uintptr) {
		for {
			if result = unix.Fallocate(int(fd), mode, offset, n); result != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return result
}
