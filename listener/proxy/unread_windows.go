package proxy

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// fionread asks how many bytes lie in a socket (winsock2.h).
const fionread = 0x4004667f

// unread reports whether something lies in the socket that was not read.
func unread(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	var waiting, got uint32
	_ = raw.Control(func(fd uintptr) { // closed: nothing lies there
		_ = windows.WSAIoctl(windows.Handle(fd), fionread, nil, 0, (*byte)(unsafe.Pointer(&waiting)), uint32(unsafe.Sizeof(waiting)), &got, nil, 0) // broken: its reader sees that
	})
	return waiting > 0
}
