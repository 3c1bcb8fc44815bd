package self

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }

// Init runs this very program once more, with the same arguments, as a child,
// and stays behind as a small init: it reaps orphans, hands signals on, and
// returns the status with which the last upgrader ended. The child has a
// process group of its own, which gets the terminal if ours has it, so that
// each signal reaches it once, and job control works as if there were one
// process. It closes the files that it passes.
func Init(pass ...Passed) (status int, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("self: init: %w", os.NewSyscallError("prctl", err))
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, fmt.Errorf("self: init: %w", os.NewSyscallError("pipe2", err))
	}
	_ = unix.SetNonblock(pipe[0], true) // cannot fail on a pipe
	var wanted []os.Signal
	for n := syscall.Signal(1); n <= 64; n++ {
		if !signal.Ignored(n) && !notHandedOn(n) || n == unix.SIGCONT { // as nohup wants it
			wanted = append(wanted, n)
		}
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, wanted...)
	i := &initProcess{heirs: pipe[0], front: ownsTerminal(), ended: map[int]unix.WaitStatus{}}
	i.terminal = i.front
	if i.main, err = i.start(pipe[1], pass); err != nil {
		return 0, fmt.Errorf("self: init: start the upgrader: %w", err)
	}
	i.group = i.main
	_ = unix.Close(pipe[1])                         // the child's
	signal.Ignore(syscall.SIGTTOU, syscall.SIGTTIN) // a background group gives the terminal away
	return i.run(signals), nil
}

// notHandedOn are signals that mean this process alone: those of the terminal's
// job control, and of the runtime.
func notHandedOn(s syscall.Signal) bool {
	switch s {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGTTIN, unix.SIGTTOU, unix.SIGTSTP, unix.SIGSTOP, unix.SIGKILL, unix.SIGPIPE,
		unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGPROF, 32, 33, 34: // 32 to 34 belong to the C library and the runtime
		return true
	}
	return false
}

type initProcess struct {
	main     int // the upgrader
	group    int // its process group, which its successors stay in
	heirs    int // who took over is told here
	terminal bool
	front    bool // its group has the terminal
	ended    map[int]unix.WaitStatus
}

// program names this very program: by its own name as long as it has that, which is what ps(1) shows then.
func program() string {
	const self = "/proc/self/exe"
	name, err := os.Executable()
	if err != nil {
		return self
	}
	named, err := os.Stat(name)
	if err != nil {
		return self
	}
	if running, err := os.Stat(self); err != nil || !os.SameFile(named, running) {
		return self
	}
	return name
}

// start forks the upgrader. Descriptors are passed by number: File.Fd would
// change the mode of a terminal or a pipe that others share.
func (i *initProcess) start(pipe int, pass []Passed) (int, error) {
	env, files := append(os.Environ(), initVariable+"=3"), []uintptr{0, 1, 2, uintptr(pipe)}
	for _, p := range pass {
		defer p.File.Close() // the child has its own
		env = append(env, p.Variable+"="+strconv.Itoa(len(files)))
		files = append(files, p.File.Fd())
	}
	return syscall.ForkExec(program(), os.Args, &syscall.ProcAttr{
		Env:   env,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: true, Foreground: i.front, Ctty: 0},
	})
}

// child is the end, or the stop, of one.
type child struct {
	pid    int
	status unix.WaitStatus
}

func (i *initProcess) run(signals <-chan os.Signal) int {
	children := make(chan child)
	go func() {
		defer close(children)
		for {
			var c child
			var err error
			if c.pid, err = unix.Wait4(-1, &c.status, unix.WUNTRACED, nil); err == unix.EINTR {
				continue
			} else if err != nil {
				return // none is left
			}
			children <- c
		}
	}()
	for {
		select {
		case s := <-signals:
			i.handOn(s.(syscall.Signal))
		case c, ok := <-children:
			switch {
			case !ok:
				return 128 + int(unix.SIGKILL) // the upgrader cannot have gone unseen
			case c.status.Stopped():
				if c.pid == i.main && i.terminal {
					i.stop()
				}
			case i.over(c):
				return exitCode(i.ended[i.main])
			}
		}
	}
}

// over notes the end of a child, and tells whether that was the last upgrader.
func (i *initProcess) over(c child) bool {
	if len(i.ended) > 256 { // of orphans; none of them becomes an upgrader
		clear(i.ended)
	}
	i.ended[c.pid] = c.status
	for {
		if _, ended := i.ended[i.main]; !ended {
			return false
		}
		next := i.heir()
		if next == 0 || next == i.main {
			return true
		}
		delete(i.ended, i.main)
		i.main = next // it is our child by now, for its parent is gone
	}
}

// heir is who the upgrader that ended said would take over; 0: nobody.
func (i *initProcess) heir() int {
	var text [256]byte
	n, err := unix.Read(i.heirs, text[:])
	if err != nil || n <= 0 {
		return 0
	}
	words := strings.Fields(string(text[:n]))
	if len(words) == 0 {
		return 0
	}
	pid, err := strconv.Atoi(words[len(words)-1])
	if err != nil {
		return 0
	}
	return pid
}

// handOn hands a signal to the upgrader.
func (i *initProcess) handOn(s syscall.Signal) {
	switch {
	case s == unix.SIGCONT:
		i.resume()
		return
	case s == unix.SIGHUP && i.front && hungUp(): // the kernel has told the group that had the terminal
		return
	}
	_ = unix.Kill(i.main, s) // it may be gone: its end is waited for
}

// stop stops this process as the upgrader was stopped (Ctrl-Z), for the shell
// to notice.
func (i *initProcess) stop() {
	_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
}

// resume goes on, with the terminal if the shell gave it to us (fg).
func (i *initProcess) resume() {
	if i.terminal {
		i.front = ownsTerminal()
		if i.front {
			_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, i.group) // it went away: HUP tells
		}
	}
	_ = unix.Kill(-i.group, unix.SIGCONT) // as above
}

// ownsTerminal tells whether our group is in the foreground.
func ownsTerminal() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func hungUp() bool {
	_, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err != nil
}

func exitCode(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
