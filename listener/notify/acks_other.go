//go:build !linux

package notify

import "net"

func listenStream(string) (*net.UnixListener, error) { return nil, errUnsupported }

func peerPid(*net.UnixConn) (int, error) { return 0, errUnsupported }
