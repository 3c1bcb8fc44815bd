package intercept

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's structures (linux/seccomp.h); the same layout on every 64-bit
// architecture:
//
//	struct seccomp_notif       { u64 id; u32 pid; u32 flags; struct seccomp_data data; }          80 bytes
//	struct seccomp_data        { i32 nr; u32 arch; u64 instruction_pointer; u64 args[6]; }         64 bytes
//	struct seccomp_notif_resp  { u64 id; i64 val; i32 error; u32 flags; }                          24 bytes
//	struct seccomp_notif_addfd { u64 id; u32 flags; u32 srcfd; u32 newfd; u32 newfd_flags; }       24 bytes
const (
	notifSize = 80
	respSize  = 24
)

// errShortNotif says that the kernel gave less than one notification.
var errShortNotif = errors.New("intercept: notification is shorter than 80 bytes")

// notification is one system call that waits for our answer.
type notification struct {
	id   uint64
	tid  int // the thread that asks, in our pid namespace; 0: not visible from it
	nr   int32
	arch uint32
	args [6]uint64
}

// parseNotification reads a struct seccomp_notif; what follows its first 80
// bytes (a later kernel's additions) is ignored.
func parseNotification(b []byte) (notification, error) {
	if len(b) < notifSize {
		return notification{}, errShortNotif
	}
	n := notification{
		id:   binary.NativeEndian.Uint64(b),
		tid:  int(int32(binary.NativeEndian.Uint32(b[8:]))),
		nr:   int32(binary.NativeEndian.Uint32(b[16:])),
		arch: binary.NativeEndian.Uint32(b[20:]),
	}
	for i := range n.args {
		n.args[i] = binary.NativeEndian.Uint64(b[32+8*i:])
	}
	return n, nil
}

// fd is the first argument as the kernel takes it: an int.
func (n notification) fd() int { return int(int32(n.args[0])) }

type notifSizes struct{ notif, resp, data uint16 }

// askSizes is SECCOMP_GET_NOTIF_SIZES: a kernel may have larger structures
// than ours, and writes as much as it has.
func askSizes() (notifSizes, error) {
	var s notifSizes
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&s)))
	if errno != 0 {
		return s, fmt.Errorf("intercept: seccomp notification sizes: %w", errno)
	}
	if s.notif < notifSize || s.resp < respSize {
		return s, fmt.Errorf("intercept: seccomp notification sizes %d and %d are smaller than known ones", s.notif, s.resp)
	}
	return s, nil
}

// buffer is n bytes, aligned for u64, all zero.
func buffer(n uint16) []byte {
	words := make([]uint64, (int(n)+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	_, err := ioctlValue(fd, request, arg)
	return err
}

func ioctlValue(fd int, request uintptr, arg unsafe.Pointer) (int, error) {
	for {
		value, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch errno {
		case 0:
			return int(value), nil
		case unix.EINTR: // the runtime's own preemption signals interrupt RECV
		default:
			return 0, errno
		}
	}
}

// receive takes the next notification. ENOENT: the task was killed or
// interrupted meanwhile; nothing is owed to it.
func receive(fd int, buf []byte) (notification, error) {
	clear(buf) // the kernel answers EINVAL to a buffer that is not zero
	if err := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&buf[0])); err != nil {
		return notification{}, err
	}
	return parseNotification(buf)
}

// valid tells whether the task still waits for the answer to id. What was read
// from /proc or its memory before was then read from that very task.
func valid(fd int, id uint64) bool {
	return ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == nil
}

// answer is how a notified call ends.
type answer struct {
	proceed bool       // the kernel does the call itself
	errno   unix.Errno // else this, 0 for success
	value   int        // of success
}

var (
	pass = answer{proceed: true}
	done = answer{}
)

func refuse(errno unix.Errno) answer { return answer{errno: errno} }

// send gives the answer. ENOENT: the task is gone or was interrupted by a
// signal and will ask again.
func send(fd int, size uint16, id uint64, a answer) error {
	buf := buffer(size)
	binary.NativeEndian.PutUint64(buf, id)
	if a.proceed {
		binary.NativeEndian.PutUint32(buf[20:], unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
	} else {
		binary.NativeEndian.PutUint64(buf[8:], uint64(a.value))
		binary.NativeEndian.PutUint32(buf[16:], uint32(-int32(a.errno)))
	}
	return ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&buf[0]))
}

type addfd struct {
	id       uint64
	flags    uint32
	src      uint32
	target   uint32
	newFlags uint32
}

// inject puts our descriptor src over the task's descriptor target
// (SECCOMP_ADDFD_FLAG_SETFD, Linux 5.9).
func inject(fd int, id uint64, src, target int, cloexec bool) error {
	a := addfd{id: id, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, src: uint32(src), target: uint32(target)}
	if cloexec {
		a.newFlags = unix.O_CLOEXEC
	}
	return ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a))
}

// give puts our descriptor src under a number that is free in the task, and returns it. It is not sent as the answer at
// once (SECCOMP_ADDFD_FLAG_SEND, Linux 5.14): when a signal interrupts us at that, as the runtime's own do, the kernel
// takes the descriptor back and lets the call return 0. A task that is interrupted before the answer has the number for
// nothing.
func give(fd int, id uint64, src int, cloexec bool) (int, error) {
	a := addfd{id: id, src: uint32(src)}
	if cloexec {
		a.newFlags = unix.O_CLOEXEC
	}
	return ioctlValue(fd, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a))
}
