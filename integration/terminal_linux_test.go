package integration

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// startInTerminal is start with a terminal of its own, in whose foreground it
// is. What is typed into master reaches it.
func startInTerminal(t *testing.T, o options) (u *upgrader, master *os.File) {
	t.Helper()
	master, slave := terminal(t)
	o.setup = func(c *exec.Cmd) {
		c.Stdin = slave
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	}
	return start(t, o), master
}

// terminal makes a pair of ends of a terminal. What comes out is dropped.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, slave = quietTerminal(t)
	go func() { _, _ = io.Copy(io.Discard, master) }() // ends with it
	return master, slave
}

// quietTerminal is a terminal that nobody reads from yet.
func quietTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a terminal: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() }) // nothing is waited for
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	number, failed := 0, error(nil)
	err = raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil || failed != nil {
		t.Skipf("needs a terminal: %v %v", err, failed)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a terminal: %v", err)
	}
	t.Cleanup(func() { _ = slave.Close() }) // the upgrader has its own
	return master, slave
}
