package listener

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Layouts of linux/inet_diag.h and linux/unix_diag.h; none of them needs a privilege to ask for.
const (
	sockDiagByFamily   = 20
	inetDiagReqLen     = 56
	inetDiagMsgLen     = 72
	inetDiagBytecode   = 1 // attribute of a request
	inetDiagInfo       = 2 // attribute of an answer: struct tcp_info
	inetDiagBytecodeGE = 2
	inetDiagBytecodeLE = 3

	stateEstablished = 1
	stateSynReceived = 3
	stateClose       = 7 // an unconnected socket of udp has this
	stateCloseWait   = 8
	stateListen      = 10
	stateHalfOpen    = 12 // a handshake under way, in a mask only: such a one is told of as stateSynReceived
	anyState         = 0xffffffff
	anyCookie        = 0xffffffff
)

// diagSocket is one socket that the kernel told about.
type diagSocket struct {
	state    uint8
	local    netip.AddrPort
	peer     uint16 // port of the other end
	scope    uint32
	cookie   uint64
	inode    uint64
	resent   uint8  // how often the kernel has repeated what waits for an answer
	expires  uint32 // ms until it does next
	unread   uint32 // bytes received and not read (listening: connections waiting)
	hasInfo  bool
	sent     uint64 // bytes
	received uint64 // bytes
	sentAgo  uint32 // ms since data was sent last
	recvAgo  uint32 // ms since data was received last
}

// diagInet lists the sockets of e's family and protocol with e's port whose states are in the mask.
func diagInet(e endpoint, states uint32, info bool) ([]diagSocket, error) {
	req := make([]byte, inetDiagReqLen)
	req[0], req[1] = byte(e.family), byte(e.protocol())
	if info {
		req[2] = 1 << (inetDiagInfo - 1)
	}
	binary.NativeEndian.PutUint32(req[4:], states)
	req = append(req, portFilter(e.addr.Port())...)
	var out []diagSocket
	err := dump(req, func(msg []byte) error {
		if len(msg) < inetDiagMsgLen {
			return errors.New("short answer")
		}
		if s := parseInet(msg); s.local.Port() == e.addr.Port() {
			out = append(out, s)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listener: list sockets of port %d: %w", e.addr.Port(), err)
	}
	return out, nil
}

// diagOne finds the one socket of tcp between two addresses: a look into the kernel's table instead of a walk through
// it, which takes milliseconds on a big machine. unix.ENOENT: there is none.
func diagOne(local, peer netip.AddrPort) (s diagSocket, err error) {
	req := make([]byte, inetDiagReqLen)
	req[0], req[1] = unix.AF_INET, unix.IPPROTO_TCP
	if local.Addr().Unmap().Is6() {
		req[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(req[4:], anyState)
	binary.BigEndian.PutUint16(req[8:], local.Port())
	binary.BigEndian.PutUint16(req[10:], peer.Port())
	copy(req[12:28], local.Addr().Unmap().AsSlice())
	copy(req[28:44], peer.Addr().Unmap().AsSlice())
	binary.NativeEndian.PutUint32(req[48:], anyCookie)
	binary.NativeEndian.PutUint32(req[52:], anyCookie)
	err = askDiag(req, 0, func(msg []byte) error {
		if len(msg) < inetDiagMsgLen {
			return errors.New("short answer")
		}
		s = parseInet(msg)
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("listener: look for the socket between %s and %s: %w", local, peer, err)
	}
	return s, nil
}

// portFilter makes the kernel leave out what has another local port.
func portFilter(port uint16) []byte {
	const opLen = 4
	b := make([]byte, 4, 4+4*opLen)
	binary.NativeEndian.PutUint16(b, 4+4*opLen)
	binary.NativeEndian.PutUint16(b[2:], inetDiagBytecode)
	op := func(code, yes byte, no uint16) {
		b = append(b, code, yes)
		b = binary.NativeEndian.AppendUint16(b, no)
	}
	// An op of a comparison is followed by one that carries the port; a jump past the end rejects.
	op(inetDiagBytecodeGE, 2*opLen, 4*opLen+4)
	op(0, 0, port)
	op(inetDiagBytecodeLE, 2*opLen, 2*opLen+4)
	op(0, 0, port)
	return b
}

func parseInet(msg []byte) diagSocket {
	ne := binary.NativeEndian
	s := diagSocket{
		state:   msg[1],
		peer:    binary.BigEndian.Uint16(msg[6:]),
		scope:   ne.Uint32(msg[40:]),
		cookie:  uint64(ne.Uint32(msg[44:])) | uint64(ne.Uint32(msg[48:]))<<32,
		resent:  msg[3],
		expires: ne.Uint32(msg[52:]),
		unread:  ne.Uint32(msg[56:]),
		inode:   uint64(ne.Uint32(msg[68:])),
	}
	port := binary.BigEndian.Uint16(msg[4:])
	if msg[0] == unix.AF_INET {
		s.local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(msg[8:12])), port)
	} else {
		s.local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(msg[8:24])), port)
	}
	attributes(msg[inetDiagMsgLen:], func(kind uint16, v []byte) {
		var ti unix.TCPInfo
		if kind != inetDiagInfo || len(v) < int(unsafe.Offsetof(ti.Bytes_sent))+8 { // Bytes_sent: Linux 4.19
			return
		}
		s.hasInfo = true
		s.sentAgo = ne.Uint32(v[unsafe.Offsetof(ti.Last_data_sent):])
		s.recvAgo = ne.Uint32(v[unsafe.Offsetof(ti.Last_data_recv):])
		s.sent = ne.Uint64(v[unsafe.Offsetof(ti.Bytes_sent):])
		s.received = ne.Uint64(v[unsafe.Offsetof(ti.Bytes_received):])
	})
	return s
}

// diagUnix calls f with every unix socket that is in one of the states.
func diagUnix(states uint32, f func(diagSocket)) error {
	const (
		reqLen, msgLen = 24, 16
		showRqlen      = 0x10
		attrRqlen      = 4
	)
	req := make([]byte, reqLen)
	req[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(req[4:], states)
	binary.NativeEndian.PutUint32(req[12:], showRqlen)
	ne := binary.NativeEndian
	err := dump(req, func(msg []byte) error {
		if len(msg) < msgLen {
			return errors.New("short answer")
		}
		s := diagSocket{
			state:  msg[2],
			inode:  uint64(ne.Uint32(msg[4:])),
			cookie: uint64(ne.Uint32(msg[8:])) | uint64(ne.Uint32(msg[12:]))<<32,
		}
		attributes(msg[msgLen:], func(kind uint16, v []byte) {
			if kind == attrRqlen && len(v) >= 4 {
				s.unread = ne.Uint32(v)
			}
		})
		f(s)
		return nil
	})
	if err != nil {
		return fmt.Errorf("listener: list unix sockets: %w", err)
	}
	return nil
}

// attributes walks netlink attributes.
func attributes(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^0xc000, b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// dump asks the kernel's sock_diag for all that fits and calls f with the body of each answer.
func dump(req []byte, f func([]byte) error) error { return askDiag(req, unix.NLM_F_DUMP, f) }

// askDiag asks sock_diag. Without flags there is one answer, or an error.
func askDiag(req []byte, flags uint16, f func([]byte) error) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	msg := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(req))
	ne := binary.NativeEndian
	ne.PutUint32(msg, uint32(unix.NLMSG_HDRLEN+len(req)))
	ne.PutUint16(msg[4:], sockDiagByFamily)
	ne.PutUint16(msg[6:], unix.NLM_F_REQUEST|flags)
	ne.PutUint32(msg[8:], 1)
	if err := unix.Sendto(fd, append(msg, req...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(ne.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return errors.New("malformed answer")
			}
			body := b[unix.NLMSG_HDRLEN:size]
			switch ne.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				if len(body) >= 4 {
					if code := int32(ne.Uint32(body)); code != 0 {
						return os.NewSyscallError("sock_diag", unix.Errno(-code))
					}
				}
				return nil
			default:
				if err := f(body); err != nil || flags&unix.NLM_F_DUMP == 0 {
					return err
				}
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
