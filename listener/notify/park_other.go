//go:build !linux

package notify

import (
	"net"
	"os"
	"syscall"
	"time"
)

func send(path, state string, files []syscall.Conn) error {
	if len(files) > 0 {
		return errUnsupported
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close() // a datagram is sent or not by now
	if err := c.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return err
	}
	_, err = c.Write([]byte(state))
	return err
}

func takeFd(int) (*os.File, error) { return nil, errUnsupported }
