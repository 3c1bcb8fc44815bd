package control

import "golang.org/x/sys/unix"

// peerUID gives the user of the other end (LOCAL_PEERCRED, unix(4)).
func peerUID(fd int) (int, error) {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(c.Uid), nil
}
