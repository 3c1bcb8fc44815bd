package state

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// bootID tells this boot from others. In a container it is the host's, which
// is right: what the state is about, sockets and processes, ends with that.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("state: read the boot id (is /proc mounted?): %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// startTime gives when a process started, in clock ticks since boot, and
// whether it runs; a zombie does not. It is field 22 of /proc/PID/stat, see
// proc_pid_stat(5); the second field may contain anything.
func startTime(pid int) (uint64, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return 0, false
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return start, err == nil
}
