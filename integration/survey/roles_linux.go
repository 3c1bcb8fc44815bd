package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// play is what rows start: servers and supervisors that get in our way.
func play(role string, args []string) error {
	runtime.LockOSThread() // filters belong to threads
	switch {
	case role == "sandbox" && len(args) == 1:
		// The thread stays: a listener is what its server is for.
		if _, err := listenToCalls(); err != nil {
			return fmt.Errorf("my own seccomp listener, without which I do not serve: %w", err)
		}
		return serve(args[0])
	case role == "nested" && len(args) > 0:
		fd, err := listenToCalls()
		if err != nil {
			return err
		}
		// It must live as long as what it listens to.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return err
		}
		return syscall.Exec(args[0], args, os.Environ())
	}
	return fmt.Errorf("no such role: %s %q", role, args)
}

// listenToCalls installs a filter with a listener on this thread. It asks for
// a call that nobody makes.
func listenToCalls() (int, error) {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_ACCT},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if os.Getuid() != 0 {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return -1, err
		}
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// serve answers with the generation, until it is killed.
func serve(address string) error {
	text := fmt.Sprintf("gen=%s pid=%d\n", os.Getenv("UPGRADER_GENERATION"), os.Getpid())
	err := http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, text) // a client that left wants no answer
	}))
	return errors.Join(errors.New("serving ended"), err)
}
