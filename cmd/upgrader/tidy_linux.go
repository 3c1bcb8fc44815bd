package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// unmapProgram gives back the pages of our own file that are mapped but were not written to: code and constants. The
// kernel maps sixteen around each one that is needed, and never less again. What is needed is mapped anew, from
// the page cache.
func unmapProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		from, to, ok := constant(strings.TrimSuffix(line, "\n"), self)
		if !ok {
			continue
		}
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED) // it is as it was, then
	}
}

// constant is a mapping of the file that nobody can have written to, from a line of /proc/PID/maps.
func constant(line, file string) (from, to uintptr, ok bool) {
	var access, offset, device string
	var inode uint64
	n, err := fmt.Sscanf(line, "%x-%x %s %s %s %d", &from, &to, &access, &offset, &device, &inode)
	if err != nil || n != 6 || !strings.HasSuffix(line, " "+file) {
		return 0, 0, false
	}
	return from, to, from < to && (access == "r-xp" || access == "r--p")
}
