package notify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// pathMax is what fits into sun_path with its terminator.
const pathMax = 107

func listen(path string) (*net.UnixConn, error) {
	if err := makeWay(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var result error
		err := raw.Control(func(fd uintptr) {
			// The inode that bind(2) makes has the mode of the socket (unix(7)),
			// so nobody can connect even for a moment.
			if result = unix.Fchmod(int(fd), 0o600); result == nil {
				result = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
			}
		})
		return errors.Join(err, result)
	}}
	c, err := config.ListenPacket(context.Background(), "unixgram", path)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	if err := os.Chmod(path, 0o600); err != nil { // for a umask that takes from the owner
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// makeWay checks that a socket can be at path, and removes the one of somebody who is gone.
func makeWay(path string) error {
	if len(path) > pathMax {
		return fmt.Errorf("the path has %d bytes, the system takes %d: %w", len(path), pathMax, syscall.ENAMETOOLONG)
	}
	if err := checkDir(path); err != nil {
		return err
	}
	if old := stat(path); old != nil && old.Mode().Type() == fs.ModeSocket {
		return os.Remove(path)
	}
	return nil
}

// checkDir refuses a directory in which others could replace the socket.
func checkDir(path string) error {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("others can write to the directory (mode %04o)", info.Mode().Perm())
	}
	return nil
}

// filesMax is how many descriptors the kernel sends at once (SCM_MAX_FD).
const filesMax = 253

// receiver has the buffers of one Run.
type receiver struct {
	conn      *net.UnixConn
	text, oob []byte
}

func newReceiver(c *net.UnixConn) *receiver {
	return &receiver{conn: c, text: make([]byte, maxMessage+1), oob: make([]byte, unix.CmsgSpace(filesMax*4)+unix.CmsgSpace(unix.SizeofUcred))}
}

// receive gives the next message. The files of an error are in the message
// too: the caller closes them.
func (r *receiver) receive(allow func(pid int, uid uint32) bool) (Message, error) {
	// ReadMsgUnix passes MSG_CMSG_CLOEXEC: what is received is born closed
	// to children.
	n, oobn, flags, _, err := r.conn.ReadMsgUnix(r.text, r.oob)
	if err != nil {
		return Message{}, err
	}
	files, from, err := control(r.oob[:oobn])
	got := Message{Files: files}
	switch {
	case err != nil:
		return got, ignored{err}
	case flags&unix.MSG_CTRUNC != 0:
		// Too many descriptors, or we may have no more of them.
		return got, ignored{errors.New("a message whose descriptors did not all arrive")}
	case from == nil || from.Pid <= 0:
		return got, ignored{errors.New("a message of a process that this system's process table does not show")}
	case allow != nil && !allow(int(from.Pid), from.Uid):
		return got, ignored{fmt.Errorf("a message of pid %d, which may not send any", from.Pid)}
	case flags&unix.MSG_TRUNC != 0:
		return got, ignored{fmt.Errorf("pid %d sent %w", from.Pid, errLong)}
	}
	m, err := Parse(r.text[:n])
	if err != nil {
		return got, ignored{fmt.Errorf("pid %d sent %w", from.Pid, err)}
	}
	m.Pid, m.Uid, m.Gid, m.Files = int(from.Pid), from.Uid, from.Gid, files
	if m.barrier && (len(files) != 1 || len(m.Fields) != 1) {
		return m, ignored{fmt.Errorf("pid %d sent BARRIER=1 with %d descriptors and %d other fields, which must be one and none", from.Pid, len(files), len(m.Fields)-1)}
	}
	return m, nil
}

// control reads the descriptors and the sender of a message. What it could
// read before an error it gives too.
func control(oob []byte) (files []*os.File, from *unix.Ucred, err error) {
	if len(oob) == 0 {
		return nil, nil, nil
	}
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, nil, os.NewSyscallError("recvmsg", err)
	}
	for _, c := range all {
		if c.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch c.Header.Type {
		case unix.SCM_RIGHTS:
			fds, e := unix.ParseUnixRights(&c)
			if e != nil {
				err = errors.Join(err, os.NewSyscallError("recvmsg", e))
			}
			for _, fd := range fds {
				files = append(files, os.NewFile(uintptr(fd), "parked"))
			}
		case unix.SCM_CREDENTIALS:
			ucred, e := unix.ParseUnixCredentials(&c)
			if e != nil {
				err = errors.Join(err, os.NewSyscallError("recvmsg", e))
			}
			from = ucred
		}
	}
	return files, from, err
}
