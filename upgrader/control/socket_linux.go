package control

import (
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// pathMax is how long a path in a sockaddr_un can be, see unix(7).
const pathMax = 107

// reachable gives a path of dir/name that fits a sockaddr_un until release is
// called: the path itself, or one through a descriptor of dir.
func reachable(dir, name string) (path string, release func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) <= pathMax {
		return path, func() {}, nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name, func() { _ = unix.Close(fd) }, nil // nothing was written
}

// peerUID gives the user of the other end, as it was when it connected or
// began to listen (SO_PEERCRED, unix(7)).
func peerUID(fd int) (int, error) {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(c.Uid), nil
}
