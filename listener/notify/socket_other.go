//go:build !linux

package notify

import (
	"errors"
	"fmt"
	"net"
)

var errUnsupported = fmt.Errorf("this system does not tell who sent a datagram: %w", errors.ErrUnsupported)

func listen(string) (*net.UnixConn, error) { return nil, errUnsupported }

type receiver struct{}

func newReceiver(*net.UnixConn) receiver { return receiver{} }

func (receiver) receive(func(int, uint32) bool) (Message, error) { return Message{}, errUnsupported }
