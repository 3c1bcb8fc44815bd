//go:build !unix && !windows

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

var errNoSocket = fmt.Errorf("the control socket is not written for this system yet: %w", errors.ErrUnsupported)

type secret struct{}

func listenIn(string) (net.Listener, fs.FileInfo, secret, error) {
	return nil, nil, secret{}, errNoSocket
}

func inheritIn(*os.File, string) (net.Listener, fs.FileInfo, error) { return nil, nil, errNoSocket }

func removeSocket(string, fs.FileInfo) error           { return nil }
func dialIn(context.Context, string) (net.Conn, error) { return nil, errNoSocket }
func absent(error) bool                                { return false }
func (secret) checkPeer(net.Conn) error                { return errNoSocket }
func checkServer(net.Conn) error                       { return errNoSocket }
