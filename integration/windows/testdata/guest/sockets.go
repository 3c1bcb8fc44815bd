package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// winsock are the calls that x/sys does not have.
type winsock struct{ accept, choose, ioctl *windows.LazyProc }

func newWinsock() winsock {
	dll := windows.NewLazySystemDLL("ws2_32.dll")
	return winsock{dll.NewProc("accept"), dll.NewProc("select"), dll.NewProc("ioctlsocket")}
}

// set is fd_set with one in it.
type set struct {
	count  uint32
	handle [64]windows.Handle
}

// timeval is that of winsock: its long has four bytes.
type timeval struct{ seconds, micros int32 }

const (
	fionbio  = 0x8004667e
	interval = 20 * time.Millisecond
)

// waiting reports whether somebody waits to be accepted, after a moment.
func (w winsock) waiting(listener windows.Handle) bool {
	readable := set{count: 1, handle: [64]windows.Handle{listener}}
	patience := timeval{micros: int32(interval / time.Microsecond)}
	n, _, _ := w.choose.Call(0, uintptr(unsafe.Pointer(&readable)), 0, 0, uintptr(unsafe.Pointer(&patience)))
	return int32(n) > 0
}

// acceptOne takes a connection that waits; another process may be faster.
func (w winsock) acceptOne(listener windows.Handle) (windows.Handle, error) {
	h, _, err := w.accept.Call(uintptr(listener), 0, 0)
	if windows.Handle(h) == windows.InvalidHandle {
		return 0, err
	}
	return windows.Handle(h), w.blocking(windows.Handle(h), true)
}

func (w winsock) blocking(h windows.Handle, is bool) error {
	var not uint32 = 1
	if is {
		not = 0
	}
	if r, _, err := w.ioctl.Call(uintptr(h), fionbio, uintptr(unsafe.Pointer(&not))); r != 0 {
		return err
	}
	return nil
}

func receive(h windows.Handle, into []byte) (int, error) {
	buffer := windows.WSABuf{Len: uint32(len(into)), Buf: &into[0]}
	var n, flags uint32
	err := windows.WSARecv(h, &buffer, 1, &n, &flags, nil, nil)
	return int(n), err
}

func send(h windows.Handle, text string) error {
	b := []byte(text)
	for len(b) > 0 {
		buffer := windows.WSABuf{Len: uint32(len(b)), Buf: &b[0]}
		var n uint32
		if err := windows.WSASend(h, &buffer, 1, &n, 0, nil, nil); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// socket is the listening one: handed over in one of the ways, or our own.
func socket(own string) (windows.Handle, error) {
	var data windows.WSAData
	if err := windows.WSAStartup(0x202, &data); err != nil {
		return 0, err
	}
	if own != "" {
		return bind(own)
	}
	if server := os.Getenv("SYSTEMFD_SOCKET_SERVER"); server != "" {
		return fromServer(server, os.Getenv("SYSTEMFD_SOCKET_SECRET"))
	}
	_, number, found := strings.Cut(os.Getenv("SERVER_STARTER_PORT"), "=")
	if !found {
		return 0, errors.New("no socket was handed over")
	}
	n, err := strconv.ParseUint(number, 10, 64)
	return windows.Handle(n), err
}

func bind(address string) (windows.Handle, error) {
	host, text, _ := strings.Cut(address, ":")
	port, err := strconv.Atoi(text)
	if err != nil || host != "127.0.0.1" {
		return 0, fmt.Errorf("address %s", address)
	}
	h, err := windows.WSASocket(windows.AF_INET, windows.SOCK_STREAM, windows.IPPROTO_TCP, nil, 0, windows.WSA_FLAG_OVERLAPPED)
	if err != nil {
		return 0, err
	}
	for range 500 { // a predecessor may still have it
		err = windows.Bind(h, &windows.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		if !errors.Is(err, windows.WSAEADDRINUSE) {
			break
		}
		time.Sleep(interval)
	}
	if err != nil {
		return 0, err
	}
	return h, windows.Listen(h, windows.SOMAXCONN)
}

// fromServer asks a socket server, as the listenfd crate does.
func fromServer(address, secret string) (windows.Handle, error) {
	host, text, _ := strings.Cut(address, ":")
	port, err := strconv.Atoi(text)
	if err != nil || host != "127.0.0.1" {
		return 0, fmt.Errorf("socket server %s", address)
	}
	h, err := windows.WSASocket(windows.AF_INET, windows.SOCK_STREAM, windows.IPPROTO_TCP, nil, 0, windows.WSA_FLAG_OVERLAPPED)
	if err != nil {
		return 0, err
	}
	defer windows.Closesocket(h)
	if err := windows.Connect(h, &windows.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, fmt.Errorf("connect to the socket server: %w", err)
	}
	if err := send(h, secret+"|"+strconv.Itoa(os.Getpid())); err != nil {
		return 0, err
	}
	if err := windows.Shutdown(h, windows.SHUT_WR); err != nil {
		return 0, err
	}
	var info windows.WSAProtocolInfo
	bytes := (*[unsafe.Sizeof(info)]byte)(unsafe.Pointer(&info))[:]
	for got := 0; got < len(bytes); {
		n, err := receive(h, bytes[got:])
		if err != nil || n == 0 {
			return 0, fmt.Errorf("the socket server sent %d bytes: %w", got, errors.Join(err, syscall.EPIPE))
		}
		got += n
	}
	return windows.WSASocket(-1, -1, -1, &info, 0, windows.WSA_FLAG_OVERLAPPED)
}
