package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Windows' unix sockets do not tell who is at the other end: control is TCP on
// loopback here, and the secret lies in a file that only its owner can read.

// fileName is what the file is called in a state dir.
const fileName = "control.json"

// keyFile is its content.
type keyFile struct {
	Address string `json:"address"`
	Pid     int    `json:"pid"`
	Key     secret `json:"key"` // base64
}

// listenIn listens on a port of loopback and writes the file: a client finds
// one that answers, or none.
func listenIn(dir string) (net.Listener, fs.FileInfo, secret, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	key := make(secret, secretSize)
	_, _ = rand.Read(key) // it never fails
	info, err := writeKey(filepath.Join(dir, fileName), keyFile{Address: l.Addr().String(), Pid: os.Getpid(), Key: key})
	if err != nil {
		_ = l.Close() // it was not used
		return nil, nil, nil, err
	}
	return l, info, key, nil
}

// inheritIn is not possible: the net package does not give its sockets away here.
func inheritIn(*os.File, string) (net.Listener, fs.FileInfo, error) {
	return nil, nil, fmt.Errorf("the control socket of another process: %w on Windows", errors.ErrUnsupported)
}

// writeKey writes the file beside path, for its owner and the system alone, and
// renames it.
func writeKey(path string, k keyFile) (fs.FileInfo, error) {
	text, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("GetTokenInformation: %w", err)
	}
	descriptor, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;" + user.User.Sid.String() + ")(A;;FA;;;SY)")
	if err != nil {
		return nil, fmt.Errorf("security descriptor: %w", err)
	}
	attributes := windows.SecurityAttributes{SecurityDescriptor: descriptor}
	attributes.Length = uint32(unsafe.Sizeof(attributes))
	fresh := path + ".new"
	name, err := windows.UTF16PtrFromString(fresh)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE, 0, &attributes, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: fresh, Err: err}
	}
	f := os.NewFile(uintptr(h), fresh)
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = rename(fresh, path)
	}
	if err != nil {
		_ = os.Remove(fresh) // the error is told
		return nil, err
	}
	return os.Stat(path)
}

// rename replaces a file that a client may be reading at the moment.
func rename(from, to string) error {
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := os.Rename(from, to)
		if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, windows.ERROR_SHARING_VIOLATION) || time.Now().After(end) {
			return err
		}
	}
}

func removeSocket(dir string, info fs.FileInfo) error {
	return removeOwn(filepath.Join(dir, fileName), info)
}

// dialIn connects to the upgrader of dir, and each proves to the other that it
// has read the file.
func dialIn(ctx context.Context, dir string) (net.Conn, error) {
	text, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		return nil, err
	}
	var k keyFile
	if err := json.Unmarshal(text, &k); err != nil || len(k.Key) != secretSize {
		return nil, fmt.Errorf("%s is not understood", filepath.Join(dir, fileName))
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", k.Address)
	if err != nil {
		return nil, err
	}
	return prove(ctx, conn, k.Key)
}

// absent reports whether err of dialIn says that nobody listens.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, windows.WSAECONNREFUSED)
}

// checkServer has nothing left to check: the server has shown that it knows
// the key.
func checkServer(net.Conn) error { return nil }
