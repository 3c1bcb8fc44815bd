package launch

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Parent to shim, on a stream: the header (two big-endian uint32: length of the body, number of descriptors), the
// descriptors in batches of at most batch, each with one byte of data, and the body, an encoded wireOrder.
//
// Shim to parent: frames of one byte. frameNotify carries the seccomp listener; frameGo says that all is set and
// the exec is next; frameError is followed by an encoded wireError up to the end of the stream. The end of the
// stream after frameGo is the success: the shim's end closes on exec.
const (
	headerSize = 8
	batch      = 128 // SCM_MAX_FD is 253

	frameNotify = 'N'
	frameGo     = 'G'
	frameError  = 'E'
)

// duplicate copies the descriptor of f, closed on exec, without touching the flags of its description.
func duplicate(f *os.File) (int, error) {
	if f == nil {
		return -1, os.ErrInvalid
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(p uintptr) {
		fd, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 3)
	}); err != nil {
		return -1, fmt.Errorf("%w: %v", os.ErrClosed, err) // the only reason it has
	}
	return fd, dupErr
}

// sendOrder writes one order with its descriptors, which stay the caller's.
func sendOrder(conn *os.File, order *wireOrder, fds []int) error {
	body := encode(order.walk)
	var header [headerSize]byte
	binary.BigEndian.PutUint32(header[:4], uint32(len(body)))
	binary.BigEndian.PutUint32(header[4:], uint32(len(fds)))
	if _, err := conn.Write(header[:]); err != nil {
		return err
	}
	for len(fds) > 0 {
		n := min(len(fds), batch)
		if err := sendRights(conn, fds[:n]); err != nil {
			return err
		}
		fds = fds[n:]
	}
	_, err := conn.Write(body)
	return err
}

func sendRights(conn *os.File, fds []int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		sendErr = retry(func() error {
			return unix.Sendmsg(int(fd), []byte{0}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		})
		return sendErr != unix.EAGAIN
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("sendmsg", sendErr)
}

// readOrder is the shim's side of sendOrder: plain system calls on a blocking socket, because the shim must not
// wake the runtime's poller. io.EOF: the parent went away without an order.
func readOrder(fd int) (order wireOrder, fds []int, err error) {
	var header [headerSize]byte
	if err := readFull(fd, header[:]); err != nil {
		return order, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(header[:4]))
	count := int(binary.BigEndian.Uint32(header[4:]))
	for len(fds) < count {
		got, err := receiveRights(fd)
		if err != nil {
			return order, nil, err
		}
		fds = append(fds, got...)
	}
	if err := readFull(fd, body); err != nil {
		return order, nil, err
	}
	return order, fds, decode(body, order.walk)
}

func readFull(fd int, b []byte) error {
	for len(b) > 0 {
		var n int
		err := retry(func() (err error) { n, err = unix.Read(fd, b); return err })
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		b = b[n:]
	}
	return nil
}

func receiveRights(fd int) ([]int, error) {
	one, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4*batch))
	var n, oobn, flags int
	err := retry(func() (err error) {
		n, oobn, flags, _, err = unix.Recvmsg(fd, one, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, io.EOF
	case flags&unix.MSG_CTRUNC != 0: // the limit of descriptors cut the list short
		return nil, unix.EMFILE
	}
	fds, err := parseRights(oob[:oobn])
	if err == nil && len(fds) == 0 {
		err = fmt.Errorf("no descriptors in a batch: %w", unix.EPROTO)
	}
	return fds, err
}

func parseRights(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// retry calls f again for as long as a signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// answer is what the shim said before its end of the stream closed.
type answer struct {
	execing bool       // all was set: what came after it is the exec
	failure *wireError // nil: none was reported
	notify  int        // the listener's descriptor, -1 without one; the caller owns it
}

// readAnswer reads up to the end of the stream.
func readAnswer(conn *os.File) (a answer, err error) {
	a.notify = -1
	raw, err := conn.SyscallConn()
	if err != nil {
		return a, err
	}
	var said []byte
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	for {
		var n, oobn int
		var recvErr error
		err := raw.Read(func(fd uintptr) bool {
			recvErr = retry(func() (err error) {
				n, oobn, _, _, err = unix.Recvmsg(int(fd), data, oob, unix.MSG_CMSG_CLOEXEC)
				return err
			})
			return recvErr != unix.EAGAIN
		})
		if err == nil && recvErr != nil && recvErr != unix.ECONNRESET { // reset: it died with our order unread
			err = os.NewSyscallError("recvmsg", recvErr)
		}
		if err != nil {
			return a, err
		}
		if fds, _ := parseRights(oob[:max(oobn, 0)]); len(fds) > 0 { // at most one has room
			a.notify = fds[0]
		}
		if n <= 0 {
			break
		}
		said = append(said, data[:n]...)
	}
	for i, frame := range said {
		switch frame {
		case frameNotify:
		case frameGo:
			a.execing = true
		case frameError:
			a.failure = new(wireError)
			return a, decode(said[i+1:], a.failure.walk)
		default:
			return a, fmt.Errorf("frame %q from the shim: %w", frame, unix.EPROTO)
		}
	}
	return a, nil
}
