//go:build !unix

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

func listenIn(string) (*net.UnixListener, fs.FileInfo, error) { return nil, nil, errNoSocket }

func inheritIn(*os.File, string) (*net.UnixListener, fs.FileInfo, error) {
	return nil, nil, errNoSocket
}

func removeSocket(string, fs.FileInfo) error                { return nil }
func dialIn(context.Context, string) (*net.UnixConn, error) { return nil, errNoSocket }
func absent(error) bool                                     { return false }
func checkPeer(*net.UnixConn) error                         { return errNoSocket }
func checkServer(*net.UnixConn) error                       { return errNoSocket }
