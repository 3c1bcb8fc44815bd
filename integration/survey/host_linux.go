package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// nobody is a user without privileges.
const nobody = 65534

// patience is how long a fact is waited for on a machine that does ten other things.
const patience = 90 * time.Second

// host is where an upgrader runs.
type host interface {
	// call runs a client command of the upgrader to its end.
	call(ctx context.Context, arguments ...string) (stdout, stderr string, code int, err error)
	// ended tells how the upgrader ended, nil while it runs.
	ended() error
	// stop asks for a full stop and gives the exit status.
	stop() (int, error)
	// dial makes connections to its server; nil: as usual.
	dial() func(ctx context.Context, network, address string) (net.Conn, error)
	log() string
}

// place is the folder of a row, and who works there.
type place struct {
	dir, bin, guest string
	uid             int
}

func (p place) path(name string) string { return filepath.Join(p.dir, name) }

// write puts a file there, readable by everybody.
func (p place) write(name, text string) (string, error) {
	return p.path(name), os.WriteFile(p.path(name), []byte(text), 0o644)
}

// copy puts a program there.
func (p place) copy(from, name string, uid int, mode os.FileMode) (string, error) {
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(p.path(name), text, 0o755)
	}
	if err == nil {
		err = os.Chown(p.path(name), uid, uid)
	}
	if err == nil {
		err = os.Chmod(p.path(name), mode) // after chown, which clears setuid
	}
	return p.path(name), err
}

// publish is a command line without what is of this run only.
func (p place) publish(arguments []string) string {
	var words []string
	for _, a := range arguments {
		for _, pair := range [][2]string{{p.dir, "DIR"}, {p.guest, "guest"}} {
			a = strings.ReplaceAll(a, pair[0], pair[1])
		}
		if strings.ContainsAny(a, " ;") || a == "" {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return "upgrader " + strings.Join(words, " ")
}

// as is how a process of that user is started; 0: ours.
func as(uid, gid int) *syscall.SysProcAttr {
	sys := &syscall.SysProcAttr{Setpgid: true}
	if uid != 0 {
		sys.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return sys
}

// local is an upgrader on this machine.
type local struct {
	place
	arguments []string
	wrapper   func(place) ([]string, error) // what stands before the upgrader; nil: nothing
	command   *exec.Cmd
	gone      chan struct{}
}

func (l *local) state() string { return l.path("state") }

func (l *local) start() error {
	log, err := os.Create(l.path("log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the upgrader has its own
	words := append([]string{filepath.Join(l.bin, "upgrader"), "--state-dir", l.state()}, l.arguments...)
	if l.wrapper != nil {
		before, err := l.wrapper(l.place)
		if err != nil {
			return err
		}
		words = append(before, words...)
	}
	l.command = exec.Command(words[0], words[1:]...)
	l.command.Stdout, l.command.Stderr = log, log
	l.command.Dir, l.command.SysProcAttr = l.dir, as(l.uid, l.uid)
	if err := l.command.Start(); err != nil {
		return err
	}
	l.gone = make(chan struct{})
	go func() {
		_ = l.command.Wait() // its status is in ProcessState
		close(l.gone)
	}()
	return nil
}

func (l *local) ended() error {
	select {
	case <-l.gone:
		return fmt.Errorf("the upgrader ended: %v", l.command.ProcessState)
	default:
		return nil
	}
}

func (l *local) call(ctx context.Context, arguments ...string) (string, string, int, error) {
	words := append([]string{arguments[0], "--state-dir", l.state()}, arguments[1:]...)
	c := exec.CommandContext(ctx, filepath.Join(l.bin, "upgrader"), words...)
	c.Dir, c.SysProcAttr = l.dir, as(l.uid, l.uid)
	return outcome(c)
}

// outcome runs a command; its exit status is no error.
func outcome(c *exec.Cmd) (string, string, int, error) {
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr, c.WaitDelay = &out, &complaint, time.Second
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	code := -1
	if c.ProcessState != nil {
		code = c.ProcessState.ExitCode()
	}
	return out.String(), complaint.String(), code, err
}

func (l *local) stop() (int, error) {
	_ = l.command.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-l.gone:
		return l.command.ProcessState.ExitCode(), nil
	case <-time.After(patience):
		return -1, fmt.Errorf("the upgrader did not stop within %v", patience)
	}
}

// close ends the upgrader if it still runs. What is left of its server ends
// with the namespace.
func (l *local) close() {
	if l.command != nil && l.command.Process != nil && l.ended() == nil {
		_ = l.command.Process.Kill() // it may be gone already
		<-l.gone
	}
}

func (l *local) dial() func(context.Context, string, string) (net.Conn, error) { return nil }

func (l *local) log() string {
	text, err := os.ReadFile(l.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}
