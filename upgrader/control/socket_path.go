//go:build unix && !linux

package control

import (
	"fmt"
	"path/filepath"
)

// pathMax is how long a path in a sockaddr_un can be, see unix(4).
const pathMax = 103

// reachable gives the path of dir/name if it fits a sockaddr_un.
func reachable(dir, name string) (path string, release func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) > pathMax {
		return "", nil, fmt.Errorf("%s is longer than the %d bytes that the path of a socket can have: give a shorter --state-dir", path, pathMax)
	}
	return path, func() {}, nil
}
