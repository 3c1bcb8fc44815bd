package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bench is what a scenario measures with. It is used by one goroutine.
type bench struct {
	order
	ctx     context.Context
	samples *samples
	started int // scratch folders made
	port    int // given out last
}

func (b *bench) upgrader() string { return filepath.Join(b.Dir, "upgrader") }
func (b *bench) guest() string    { return filepath.Join(b.Dir, "guest") }

// within gives a context for something that is bound to happen.
func (b *bench) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.ctx, patience)
}

// scratch makes a folder with a short path.
func (b *bench) scratch() (string, error) {
	b.started++
	dir := filepath.Join(b.Dir, fmt.Sprintf("%.2s%d", b.Scenario, b.started))
	return dir, os.Mkdir(dir, 0o755)
}

// address gives a loopback address that nobody has, not among the ports that
// the kernel gives to clients.
func (b *bench) address() (string, error) {
	if b.port == 0 {
		b.port = 10000 + os.Getpid()%20000
	}
	for range 1000 {
		if b.port++; b.port > 32000 {
			b.port = 10000
		}
		a := fmt.Sprintf("127.0.0.1:%d", b.port)
		if l, err := net.Listen("tcp", a); err == nil {
			_ = l.Close() // nobody came
			return a, nil
		}
	}
	return "", errors.New("no free port")
}

// server is a process that was started, with all that came of it.
type server struct {
	name, address string
	command       *exec.Cmd
	log           string
	gone          chan struct{} // closed when it has ended
	state         string        // of an upgrader: its state dir
}

// recipe says how a server is started. In command, ADDRESS, PORT, DIR and STATE
// stand for what is known only then.
type recipe struct {
	name    string
	tool    string // that must be installed; "": nothing
	command []string
	env     []string
	files   map[string]string // to be written into its folder first
}

// start starts a server, and does not wait for anything.
func (b *bench) start(r recipe) (*server, error) {
	dir, err := b.scratch()
	if err != nil {
		return nil, err
	}
	s := &server{name: r.name, log: filepath.Join(dir, "log"), state: filepath.Join(dir, "s"), gone: make(chan struct{})}
	if s.address, err = b.address(); err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(s.address, ":")
	fill := strings.NewReplacer("ADDRESS", s.address, "PORT", port, "DIR", dir, "STATE", s.state).Replace
	for name, text := range r.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fill(text)), 0o644); err != nil {
			return nil, err
		}
	}
	var argv []string
	for _, a := range r.command {
		argv = append(argv, fill(a))
	}
	var env []string
	for _, e := range r.env {
		env = append(env, fill(e))
	}
	if err := s.run(argv, append(os.Environ(), env...), dir); err != nil {
		return nil, fmt.Errorf("start %s: %w", r.name, err)
	}
	return s, nil
}

func (s *server) run(argv, env []string, dir string) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	s.command = exec.Command(argv[0], argv[1:]...)
	s.command.Stdout, s.command.Stderr, s.command.Dir = log, log, dir
	s.command.Env = env
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.command.Start(); err != nil {
		return err
	}
	c, gone := s.command, s.gone
	go func() {
		_ = c.Wait() // how it ended is in ProcessState
		close(gone)
	}()
	return nil
}

// again starts the same command once more, after it has ended.
func (s *server) again() error {
	s.gone = make(chan struct{})
	return s.run(s.command.Args, s.command.Env, s.command.Dir)
}

// serve starts a server and waits for its first answer.
func (b *bench) serve(r recipe) (*server, error) {
	s, err := b.start(r)
	if err != nil {
		return nil, err
	}
	_, err = b.firstAnswer(s)
	return s, err
}

// firstAnswer waits for an answer, and gives the pid in it.
func (b *bench) firstAnswer(s *server) (int, error) {
	ctx, cancel := b.within()
	defer cancel()
	for {
		pid, err := ask(s.address)
		if err == nil {
			return pid, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s does not answer: %w\n%s", s.name, err, s.output())
		case <-s.gone:
			return 0, fmt.Errorf("%s ended: %v\n%s", s.name, s.command.ProcessState, s.output())
		default:
		}
		pause(200 * time.Microsecond)
	}
}

// pause is a sleep that is not rounded to milliseconds.
func pause(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // a shorter one does no harm
}

// ask makes one request on a new connection and gives the pid in the answer, 0
// if it names none.
func ask(address string) (int, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return 0, err
	}
	defer hangUp(c)
	_ = c.SetDeadline(time.Now().Add(patience)) // fails only on a closed one
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, err
	}
	body, _, err := readAnswer(bufio.NewReaderSize(c, 1024))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(body, []byte("pid="))
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(rest))) // 0 without one
	return pid, nil
}

// hangUp closes with a reset: no TIME_WAIT is left, or ports would run out.
func hangUp(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // it may be gone already
	}
	_ = c.Close() // as above
}

// signal sends one to the process itself.
func (s *server) signal(sig syscall.Signal) error { return s.command.Process.Signal(sig) }

// stop ends the server gracefully.
func (s *server) stop() error {
	if err := s.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return s.wait()
}

func (s *server) wait() error {
	select {
	case <-s.gone:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s does not end\n%s", s.name, s.output())
	}
}

// output is the end of what the server wrote.
func (s *server) output() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}

// stopAll stops servers, and gives the first error.
func stopAll(servers []*server) error {
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.stop())
	}
	return errors.Join(errs...)
}
