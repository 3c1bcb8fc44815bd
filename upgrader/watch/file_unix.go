//go:build unix

package watch

import (
	"io/fs"
	"syscall"
)

func numbers(info fs.FileInfo) (dev, ino uint64) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev), st.Ino
	}
	return 0, 0
}

func executable(info fs.FileInfo) bool { return info.Mode().Perm()&0o111 != 0 }
