package shmbridge

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait for a fact.
const patience = 30 * time.Second

// process is a child that answers lines by lines.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	watch *time.Timer // kills it when it does not answer
	ended bool
}

// start starts a child with the given files from descriptor 3 on, and reads its first line.
func start(t *testing.T, cmd *exec.Cmd, files ...*os.File) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd}
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	p.in, p.out = in, bufio.NewReader(out)
	must(t, cmd.Start())
	p.watch = time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { p.watch.Stop(); p.kill() })
	return p
}

// role starts the test binary in a role. It is reached through /proc, which whoever it runs as may do.
func role(t *testing.T, name string, env []string, args []string, files ...*os.File) *process {
	t.Helper()
	self := "/proc/self/exe"
	if _, err := os.Stat(self); err != nil {
		self, err = os.Executable()
		must(t, err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(append(os.Environ(), roleEnv+"="+name, "GORACE=atexit_sleep_ms=0"), env...)
	return start(t, cmd, files...)
}

func (p *process) line() string {
	p.t.Helper()
	p.watch.Reset(patience)
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("child %v ended after %q: %v", p.cmd.Args, line, err)
	}
	return strings.TrimSpace(line)
}

func (p *process) expect(want string) {
	p.t.Helper()
	if got := p.line(); got != want {
		p.t.Fatalf("child %v says %q, not %q", p.cmd.Args, got, want)
	}
}

// ask sends a line and compares the answer.
func (p *process) ask(command, want string) {
	p.t.Helper()
	_, err := fmt.Fprintln(p.in, command)
	must(p.t, err)
	if got := p.line(); got != want {
		p.t.Fatalf("%s: got %q, want %q", command, got, want)
	}
}

func (p *process) kill() {
	if p.ended {
		return
	}
	p.ended = true
	_ = p.cmd.Process.Kill()
	_ = p.in.Close()
	_ = p.cmd.Wait() // killed
}

// quit lets the child end by itself.
func (p *process) quit() {
	p.t.Helper()
	p.watch.Reset(patience)
	p.ended = true
	must(p.t, p.in.Close())
	must(p.t, p.cmd.Wait())
}

// guestRole is a server that keeps a counter in the segment's first 8 bytes, and does what it is told. testdata/guest.c
// is the same in C and C++.
func guestRole([]string) error {
	b, err := Attach()
	if err != nil {
		return err
	}
	fmt.Println("attached", b.Found())
	var lease *Lease
	answer := func(err error) {
		switch {
		case err == nil:
			fmt.Println("ok")
		case errors.Is(err, ErrVoid):
			fmt.Println("void")
		case errors.Is(err, ErrBusy):
			fmt.Println("busy")
		case errors.Is(err, ErrRestoring):
			fmt.Println("restoring")
		default:
			fmt.Println(err)
		}
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, text, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.ParseUint(text, 10, 64)
		switch word {
		case "take":
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // one try
			lease, err = b.Take(ctx, n)
			answer(err)
		case "wait":
			lease, err = b.Take(context.Background(), n)
			answer(err)
		case "save":
			answer(lease.Save(n))
		case "resume":
			answer(lease.Resume())
		case "valid":
			answer(lease.Valid())
		case "release":
			answer(lease.Release())
		case "add":
			sum := binary.LittleEndian.Uint64(b.Bytes()) + n
			binary.LittleEndian.PutUint64(b.Bytes(), sum)
			fmt.Println(sum)
		}
	}
	return b.Close()
}
