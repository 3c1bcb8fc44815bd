package notify

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenStream makes a stream socket that only its owner can connect to.
func listenStream(path string) (*net.UnixListener, error) {
	if err := makeWay(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var result error
		err := raw.Control(func(fd uintptr) { result = unix.Fchmod(int(fd), 0o600) }) // as of Listen
		return errors.Join(err, result)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	unixListener := l.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false)          // what is there may be another's by then
	if err := os.Chmod(path, 0o600); err != nil { // for a umask that takes from the owner
		_ = l.Close()
		return nil, err
	}
	return unixListener, nil
}

// peerPid is the process that connected.
func peerPid(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var who *unix.Ucred
	var result error
	if err := raw.Control(func(fd uintptr) { who, result = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if result != nil {
		return 0, os.NewSyscallError("getsockopt", result)
	}
	return int(who.Pid), nil
}
