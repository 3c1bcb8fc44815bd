//go:build unix

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// newName is what the socket is called before it is ready; not longer than
// socketName.
const newName = "control.new"

// listenIn makes the socket under another name, gives it its mode, and then
// moves it to its place: a client finds a socket that answers, or none.
func listenIn(dir string) (net.Listener, fs.FileInfo, secret, error) {
	path, release, err := reachable(dir, newName)
	if err != nil {
		return nil, nil, secret{}, err
	}
	defer release()
	fresh := filepath.Join(dir, newName)
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, secret{}, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, secret{}, err
	}
	l.SetUnlinkOnClose(false) // by then the path may be another's, or mean something else
	if err := os.Chmod(fresh, 0o600); err != nil {
		_ = l.Close() // it was not used
		return nil, nil, secret{}, err
	}
	info, err := os.Lstat(fresh)
	if err == nil {
		err = os.Rename(fresh, filepath.Join(dir, socketName))
	}
	if err != nil {
		_ = l.Close() // it was not used
		return nil, nil, secret{}, err
	}
	return l, info, secret{}, nil
}

// inheritIn takes the listening socket from f, which it leaves open.
func inheritIn(f *os.File, dir string) (net.Listener, fs.FileInfo, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		_ = l.Close() // it was not used
		return nil, nil, fmt.Errorf("not a unix socket but %s", l.Addr().Network())
	}
	u.SetUnlinkOnClose(false)
	info, err := os.Lstat(filepath.Join(dir, socketName))
	if err != nil {
		_ = u.Close() // it was not used
		return nil, nil, err
	}
	return u, info, nil
}

func removeSocket(dir string, info fs.FileInfo) error {
	return removeOwn(filepath.Join(dir, socketName), info)
}

// dialIn connects to the socket of dir.
func dialIn(ctx context.Context, dir string) (net.Conn, error) {
	path, release, err := reachable(dir, socketName)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// absent reports whether err of dialIn says that nobody listens.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR)
}

// secret is not needed: the system tells who is at the other end.
type secret struct{}

// checkPeer checks, for a server, that a client is of our user, or root.
func (secret) checkPeer(conn net.Conn) error {
	uid, err := otherUID(conn)
	if err == nil && !trusted(uid, os.Geteuid()) {
		err = fmt.Errorf("only uid %d and root may control this upgrader, not uid %d", os.Geteuid(), uid)
	}
	return err
}

// checkServer checks, for a client, that a server is of our user, or root, or
// that we are root.
func checkServer(conn net.Conn) error {
	uid, err := otherUID(conn)
	if err == nil && os.Geteuid() != 0 && !trusted(uid, os.Geteuid()) {
		err = fmt.Errorf("it belongs to uid %d, not to uid %d", uid, os.Geteuid())
	}
	return err
}

// trusted reports whether somebody with our uid trusts one with the other.
func trusted(uid, ours int) bool { return uid == ours || uid == 0 }

// otherUID gives the user of the other end.
func otherUID(conn net.Conn) (int, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("not a unix socket but %s", conn.LocalAddr().Network())
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var uid int
	var credErr error
	if err := raw.Control(func(fd uintptr) { uid, credErr = peerUID(int(fd)) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, fmt.Errorf("read the credentials of the other end: %w", credErr)
	}
	return uid, nil
}
