package self

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// newPair makes the two ends of a link. They do not block, so that the
// runtime's poller waits for them: nobody else has their descriptions.
func newPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link"), nil
}

// sendFiles sends descriptors with one byte (SCM_RIGHTS, unix(7)). They are
// reached without File.Fd, which would clear O_NONBLOCK on the description
// that a lane shares with its server.
func sendFiles(c *net.UnixConn, files []File) error {
	var fds []int
	var send func(i int) error
	send = func(i int) error {
		if i == len(files) {
			return sendSockets(c, fds)
		}
		raw, err := files[i].File.SyscallConn()
		if err != nil {
			return err
		}
		var sent error
		err = raw.Control(func(fd uintptr) { // none of them is closed before all are sent
			fds = append(fds, int(fd))
			sent = send(i + 1)
		})
		return errors.Join(err, sent)
	}
	return send(0)
}

// sendSockets sends descriptors with one byte. How many are on their way at a
// time is limited for each user (unix(7), ETOOMANYREFS): then the receiver is
// waited for.
func sendSockets(c *net.UnixConn, fds []int) error {
	for tries := 0; ; tries++ {
		_, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil)
		if !errors.Is(err, unix.ETOOMANYREFS) || tries == tooManyTries {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// tooManyTries is how often a message is sent that does not fit: for a second.
const tooManyTries = 1000

// receiveFiles gives the descriptors of one message, closed on exec.
func receiveFiles(c *net.UnixConn) ([]*os.File, error) {
	fds, err := receiveSockets(c)
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "inherited")
	}
	return files, err
}

func closeSockets(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd) // another process has it
	}
}

// receiveSockets is receiveFiles for what no runtime is to know of.
func receiveSockets(c *net.UnixConn) ([]int, error) {
	var one [1]byte
	oob := make([]byte, unix.CmsgSpace(253*4))
	n, oobn, flags, _, err := c.ReadMsgUnix(one[:], oob) // with MSG_CMSG_CLOEXEC
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("the link ended")
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	var all []int
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // not descriptors
		}
		all = append(all, fds...)
	}
	switch {
	case flags&unix.MSG_CTRUNC != 0:
		err = syscall.EMFILE // there is no room for all of them
	case len(all) == 0:
		err = errors.New("a message without descriptors")
	}
	if err != nil {
		closeSockets(all)
		return nil, err
	}
	return all, nil
}

// Duplicate duplicates a descriptor, and leaves the mode of its description as
// it is.
func Duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	own, failed := -1, error(nil)
	if err := raw.Control(func(fd uintptr) { own, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, os.NewSyscallError("fcntl", failed)
	}
	return os.NewFile(uintptr(own), f.Name()), nil
}
