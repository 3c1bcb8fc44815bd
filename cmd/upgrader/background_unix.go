//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// daemonEnv tells a process that it is the one in the background, and the
// descriptor on which it says that it has come up.
const daemonEnv = "UPGRADER_BACKGROUND"

// background is --daemon, and start_server's --daemonize: a process in a session
// of its own. The one that was called returns when the other has come up, or
// tells why it has not.
type background struct{ up *os.File }

// newBackground finds out which of the two this process is.
func newBackground() *background {
	value := os.Getenv(daemonEnv)
	_ = os.Unsetenv(daemonEnv) // fails for no name that is one
	fd, err := strconv.Atoi(value)
	if err != nil {
		return &background{}
	}
	syscall.CloseOnExec(fd)
	return &background{os.NewFile(uintptr(fd), "daemon")}
}

func (d *background) inside() bool { return d.up != nil }

// cameUp lets the one that was called return with that exit status.
func (d *background) cameUp(code int) {
	if d.up != nil {
		_, _ = d.up.Write([]byte{byte(code)}) // it may have been killed
		_ = d.up.Close()
		d.up = nil
	}
}

// start starts the process in the background and waits until it is up.
func (d *background) start() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("fork failed: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("fork failed: %w", err)
	}
	defer r.Close() // only read
	c := exec.Command(self)
	c.Args = os.Args
	c.Env = append(os.Environ(), daemonEnv+"=3")
	c.ExtraFiles = []*os.File{w}
	c.Stdout, c.Stderr = os.Stdout, os.Stderr // no stdin: it is /dev/null
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = c.Start()
	_ = w.Close() // the process has its own
	if err != nil {
		return fmt.Errorf("fork failed: %w", err)
	}
	code := make([]byte, 1)
	switch n, _ := io.ReadFull(r, code); { // it ended otherwise
	case n == 1 && code[0] == 0:
		return nil
	case n == 1: // it has said why, and goes on with what did come up
		return &exit{int(code[0]), nil}
	}
	err = c.Wait()
	var failed *exec.ExitError
	if errors.As(err, &failed) { // it has said why
		return &exit{max(1, failed.ExitCode()), nil}
	}
	return fmt.Errorf("the server process ended before it was up: %w", err)
}

// redirect puts file in the place of descriptor fd.
func redirect(file *os.File, fd int) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var dup error
	if err := raw.Control(func(from uintptr) { dup = unix.Dup2(int(from), fd) }); err != nil {
		return err
	}
	return os.NewSyscallError("dup2", dup)
}
