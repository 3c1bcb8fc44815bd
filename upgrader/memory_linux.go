package upgrader

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/process"
)

// readable opens a held file for reading: the one that we hold cannot be read.
func readable(held *os.File) (*os.File, error) {
	c, err := held.SyscallConn()
	if err != nil {
		return nil, err
	}
	var f *os.File
	var opened error
	if err := c.Control(func(fd uintptr) { f, opened = os.Open("/proc/self/fd/" + strconv.Itoa(int(fd))) }); err != nil {
		return nil, err
	}
	return f, opened
}

// inheritMemory opens the segment and the bridge page that a process was
// handed. Descriptions of our own: a lock on them is ours.
func inheritMemory(id process.Identity) (in shmbridge.Inherited, err error) {
	base := "/proc/" + strconv.Itoa(id.Pid)
	text, err := os.ReadFile(base + "/environ")
	if err != nil {
		return in, err
	}
	numbers := map[string]string{}
	for line := range strings.SplitSeq(string(text), "\x00") {
		if key, value, _ := strings.Cut(line, "="); key == shmbridge.EnvBridge || key == shmbridge.EnvFd {
			numbers[key] = value
		}
	}
	defer func() {
		if err != nil {
			_ = in.Bridge.Close() // a nil one says so
			_ = in.Segment.Close()
		}
	}()
	open := func(key string) (*os.File, error) {
		n, err := strconv.Atoi(numbers[key])
		if err != nil {
			return nil, fmt.Errorf("it was given no %s", key)
		}
		return os.OpenFile(base+"/fd/"+strconv.Itoa(n), os.O_RDWR, 0)
	}
	if in.Bridge, err = open(shmbridge.EnvBridge); err != nil {
		return in, err
	}
	if in.Segment, err = open(shmbridge.EnvFd); err != nil {
		return in, err
	}
	if !id.Alive() {
		return in, process.ErrGone
	}
	return in, nil
}

// commandOf is the name of a process, "" when it is gone.
func commandOf(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
