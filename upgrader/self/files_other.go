//go:build !linux

package self

import (
	"errors"
	"net"
	"os"
)

func newPair() (ours, theirs *os.File, err error)    { return nil, nil, errors.ErrUnsupported }
func sendFiles(*net.UnixConn, []File) error          { return errors.ErrUnsupported }
func receiveFiles(*net.UnixConn) ([]*os.File, error) { return nil, errors.ErrUnsupported }
func sendSockets(*net.UnixConn, []int) error         { return errors.ErrUnsupported }
func receiveSockets(*net.UnixConn) ([]int, error)    { return nil, errors.ErrUnsupported }
func closeSockets([]int)                             {}

// Duplicate is for Linux.
func Duplicate(*os.File) (*os.File, error) { return nil, errors.ErrUnsupported }
