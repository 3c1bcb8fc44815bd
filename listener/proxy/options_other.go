//go:build !linux

package proxy

import (
	"errors"
	"net"
	"time"
)

const canUserTimeout = false

func setUserTimeout(*net.TCPConn, time.Duration) error { return errors.ErrUnsupported }

func unsent(net.Conn) int { return 0 }

func splice(net.Conn, net.Conn, int64) (int64, bool, error) { return 0, false, nil }
