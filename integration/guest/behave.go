package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/edsrzf/mmap-go"
)

// say sends one datagram to a notify socket.
func say(path, message string) error {
	if path == "" {
		return errors.New("no notify socket: NOTIFY_SOCKET is not set")
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = c.Write([]byte(strings.ReplaceAll(message, `\n`, "\n")))
	return err
}

// beat says WATCHDOG=1 as often as a server that is watched does.
func beat(ctx context.Context, o options) {
	every, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err != nil || every <= 0 || pid != strconv.Itoa(os.Getpid()) {
		fmt.Fprintf(os.Stderr, "guest: not watched: WATCHDOG_USEC=%q, WATCHDOG_PID=%q\n", os.Getenv("WATCHDOG_USEC"), pid)
		return
	}
	for n := o.beats; n != 0 && ctx.Err() == nil; n-- {
		_ = say(o.to, "WATCHDOG=1") // nobody may be left to hear it
		sleep(ctx, time.Duration(every)*time.Microsecond/2)
	}
}

// mapFile maps a file, shared, for the life of the process, and writes to its
// ends.
func mapFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	memory, err := mmap.Map(f, mmap.RDWR, 0)
	if err != nil {
		return fmt.Errorf("map %s: %w", path, err)
	}
	memory[0]++
	memory[len(memory)-1]++
	return f.Close()
}

// daemonStage counts the processes of a double fork: "" is the one that was
// started, "1" leads the new session, "2" serves.
const daemonStage = "GUEST_DAEMON_STAGE"

// daemonise starts the next stage of a double fork. It reports whether this
// process is done.
func daemonise() (bool, error) {
	next := map[string]string{"": "1", "1": "2"}[os.Getenv(daemonStage)]
	if next == "" {
		return false, nil
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), daemonStage+"="+next, "GUEST_WORKER=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.ExtraFiles = inherited()
	if next == "1" {
		c.SysProcAttr = newSession()
	}
	return true, c.Start()
}

// serveInChildren starts the workers, hands signals down and waits for all. A
// worker that fails ends the guest.
func serveInChildren(ctx context.Context, o options) error {
	var workers []*exec.Cmd
	errs := make(chan error, o.fork)
	var all sync.WaitGroup
	for range o.fork {
		c := exec.Command("/proc/self/exe", append(os.Args[1:], "-worker")...)
		c.Args[0] = os.Args[0]
		c.Env = append(os.Environ(), "GUEST_WORKER=1")
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
		c.ExtraFiles = inherited()
		if err := c.Start(); err != nil {
			return fmt.Errorf("start a worker: %w", err)
		}
		workers = append(workers, c)
		all.Go(func() { errs <- c.Wait() })
	}
	go func() {
		<-ctx.Done()
		for _, w := range workers {
			_ = w.Process.Signal(syscall.SIGTERM) // it may be gone already
		}
	}()
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// inherited gives descriptors 3 and up without a gap, as LISTEN_FDS counts them.
func inherited() []*os.File {
	var files []*os.File
	n := 0
	if _, err := fmt.Sscan(os.Getenv("LISTEN_FDS"), &n); err != nil {
		return nil
	}
	for i := range n {
		files = append(files, os.NewFile(uintptr(3+i), "inherited"))
	}
	return files
}
