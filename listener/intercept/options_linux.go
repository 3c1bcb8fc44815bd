package intercept

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/listener"
)

// optionSize is large enough for every option below.
const optionSize = 64

// options that a server may set before bind(2), and that its lane must have
// too. Those set later reach the lane by themselves. IPV6_V6ONLY and
// SO_REUSEPORT are fields of listener.Socket.
var options = [...]struct{ level, name int }{
	{unix.SOL_SOCKET, unix.SO_REUSEADDR},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE},
	{unix.SOL_SOCKET, unix.SO_BROADCAST},
	{unix.SOL_SOCKET, unix.SO_OOBINLINE},
	{unix.SOL_SOCKET, unix.SO_DONTROUTE},
	{unix.SOL_SOCKET, unix.SO_LINGER},
	{unix.SOL_SOCKET, unix.SO_RCVBUF},
	{unix.SOL_SOCKET, unix.SO_SNDBUF},
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT},
	{unix.SOL_SOCKET, unix.SO_RCVTIMEO},
	{unix.SOL_SOCKET, unix.SO_SNDTIMEO},
	{unix.SOL_SOCKET, unix.SO_PRIORITY},
	{unix.SOL_SOCKET, unix.SO_MARK},
	{unix.SOL_SOCKET, unix.SO_INCOMING_CPU},
	{unix.SOL_SOCKET, unix.SO_BUSY_POLL},
	{unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMP},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPING},
	{unix.SOL_SOCKET, unix.SO_RXQ_OVFL},
	{unix.SOL_SOCKET, unix.SO_ZEROCOPY},

	{unix.IPPROTO_IP, unix.IP_TOS},
	{unix.IPPROTO_IP, unix.IP_TTL},
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER},
	{unix.IPPROTO_IP, unix.IP_FREEBIND},
	{unix.IPPROTO_IP, unix.IP_TRANSPARENT},
	{unix.IPPROTO_IP, unix.IP_RECVERR},
	{unix.IPPROTO_IP, unix.IP_PKTINFO},
	{unix.IPPROTO_IP, unix.IP_RECVTOS},
	{unix.IPPROTO_IP, unix.IP_RECVTTL},
	{unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP},

	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
	{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER},
	{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND},
	{unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVERR},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT},
	{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP},

	{unix.IPPROTO_TCP, unix.TCP_NODELAY},
	{unix.IPPROTO_TCP, unix.TCP_CORK},
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT},
	{unix.IPPROTO_TCP, unix.TCP_LINGER2},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT},
	{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP},
	{unix.IPPROTO_TCP, unix.TCP_CONGESTION},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE},
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
	{unix.IPPROTO_TCP, unix.TCP_SAVE_SYN},
	{unix.IPPROTO_TCP, unix.TCP_INQ},

	{unix.IPPROTO_UDP, unix.UDP_CORK},
	{unix.IPPROTO_UDP, unix.UDP_SEGMENT},
	{unix.IPPROTO_UDP, unix.UDP_GRO},
	{unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_TX},
	{unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_RX},
}

// changed are the options of socket fd that differ from those of fresh, a
// socket of the same kind that nobody touched, as values for setsockopt(2).
func changed(fd, fresh int, stream bool) []listener.Option {
	var out []listener.Option
	for _, o := range options {
		if (o.level == unix.IPPROTO_TCP && !stream) || (o.level == unix.IPPROTO_UDP && stream) {
			continue
		}
		// An error is an option that this kind of socket, or kernel, lacks.
		is, err := getOption(fd, o.level, o.name)
		if err != nil {
			continue
		}
		was, err := getOption(fresh, o.level, o.name)
		if err != nil || bytes.Equal(is, was) {
			continue
		}
		if o.level == unix.SOL_SOCKET && (o.name == unix.SO_RCVBUF || o.name == unix.SO_SNDBUF) && len(is) == 4 {
			// The kernel doubles what is set (socket(7)) and tells the double.
			n := (*int32)(unsafe.Pointer(&is[0]))
			*n /= 2
		}
		out = append(out, listener.Option{Level: o.level, Name: o.name, Value: is})
	}
	return out
}

// getOption is getsockopt(2) in bytes: options are numbers, structures and
// texts alike.
func getOption(fd, level, name int) ([]byte, error) {
	b := buffer(optionSize)
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, errno
	}
	return b[:size], nil
}

// filterLength is how many instructions of BPF the socket has attached; an
// eBPF program cannot be counted and is one.
func filterLength(fd int) int {
	var n uint32
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER,
		0, uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		if errno == unix.EACCES {
			return 1
		}
		return 0
	}
	return int(n)
}
