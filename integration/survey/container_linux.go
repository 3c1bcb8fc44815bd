package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// engine is a Docker engine of the survey's own: nothing on the machine is
// touched, nothing is pulled.
type engine struct {
	place
	command *exec.Cmd
	gone    chan struct{}
}

// containerRows measures servers in containers, so many at a time.
func containerRows(ctx context.Context, o options, chosen []server) []Row {
	e, err := startEngine(ctx, o)
	if e != nil {
		defer e.close()
	}
	return inTurns(o, chosen, func(i int, s server) Row {
		r := Row{Server: s.name, Way: inContainer, Strategy: s.strategy, Signal: s.signal, Fallback: s.fallback}
		missing := s.missing()
		switch {
		case err != nil:
			r.Skipped = "needs a Docker engine: " + strings.SplitN(err.Error(), "\n", 2)[0]
		case missing != "":
			r.Skipped = "needs " + missing
		default:
			e.row(ctx, o, s, fmt.Sprintf("up%d", i), &r)
		}
		return r
	})
}

func startEngine(ctx context.Context, o options) (*engine, error) {
	for _, tool := range []string{"dockerd", "docker", "containerd"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("/tmp", "sv")
	if err != nil {
		return nil, err
	}
	e := &engine{place: place{dir: dir, bin: o.Bin}, gone: make(chan struct{})}
	log, err := os.Create(e.path("dockerd.log"))
	if err != nil {
		return e, err
	}
	defer func() { _ = log.Close() }() // the engine has its own
	e.command = exec.Command("dockerd", "--data-root", e.path("data"), "--exec-root", e.path("exec"), "--pidfile", e.path("pid"),
		"-H", e.socket(), "--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs")
	e.command.Stdout, e.command.Stderr = log, log
	e.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to hand down, in order
	if err := e.command.Start(); err != nil {
		e.command = nil
		return e, err
	}
	go func() {
		_ = e.command.Wait() // how it ends does not matter
		close(e.gone)
	}()
	for deadline := time.Now().Add(patience); ; {
		_, err := e.docker(ctx, "version")
		if err == nil {
			break
		}
		select {
		case <-e.gone:
			text, _ := os.ReadFile(log.Name()) // it says what there is to say
			return e, fmt.Errorf("the engine ended: %s", lastBytes(string(text), 1000))
		case <-ctx.Done():
			return e, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return e, err
		}
	}
	return e, e.image(ctx)
}

func (e *engine) socket() string { return "unix://" + e.path("docker.sock") }

// docker runs a command of the engine's client and gives its stdout.
func (e *engine) docker(ctx context.Context, arguments ...string) (string, error) {
	out, complaint, code, err := outcome(e.client(ctx, arguments...))
	if err == nil && code != 0 {
		err = fmt.Errorf("docker %s: exit status %d: %s", strings.Join(arguments, " "), code, complaint)
	}
	return strings.TrimSpace(out), err
}

func (e *engine) client(ctx context.Context, arguments ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "docker", append([]string{"-H", e.socket()}, arguments...)...)
	c.Env = append(os.Environ(), "DOCKER_BUILDKIT=0", "DOCKER_CONFIG="+e.path("config")) // the classic builder needs nothing beside the engine
	return c
}

// hostFolders are what servers of the machine need of it, in a container.
var hostFolders = []string{"/usr", "/etc"}

// image makes the one image: the upgrader, and the names by which what is in /usr is known.
func (e *engine) image(ctx context.Context) error {
	if err := os.MkdirAll(e.path("image/root"), 0o755); err != nil {
		return err
	}
	if _, err := e.copy(filepath.Join(e.bin, "upgrader"), "image/root/upgrader", 0, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+name, e.path("image/root/"+name)); err != nil {
			return err
		}
	}
	if _, err := e.write("image/Dockerfile", "FROM scratch\nCOPY root/ /\nUSER 65534:65534\nENTRYPOINT [\"/upgrader\"]\n"); err != nil {
		return err
	}
	_, err := e.docker(ctx, "build", "--quiet", "--tag", "survey", e.path("image"))
	return err
}

func (e *engine) close() {
	if e.command != nil {
		_ = e.command.Process.Signal(syscall.SIGTERM) // it may be gone already
		select {
		case <-e.gone:
		case <-time.After(patience):
			_ = e.command.Process.Kill() // as above
			<-e.gone
		}
	}
	// Layers of vfs are plain folders; what is mounted below exec-root goes with its engine.
	_ = os.RemoveAll(e.dir) // temporary: what is left is the system's to clean
}

// row measures one server in a container.
func (e *engine) row(ctx context.Context, o options, s server, name string, r *Row) {
	p, err := o.newPlace(inContainer)
	if err != nil {
		r.Error = err.Error()
		return
	}
	defer o.leave(p)
	command, err := s.prepare(ctx, p)
	if err != nil {
		r.Error = "prepare: " + err.Error()
		return
	}
	r.Version = s.tells(ctx)
	arguments := append(append(o.upgraderFlags(s, p), "--"), command...)
	r.Command = p.publish(arguments)
	c := &container{engine: e, name: name}
	run := []string{"run", "--detach", "--name", name, "--network", "none", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run", "--volume", p.dir + ":" + p.dir, "--volume", p.bin + ":" + p.bin + ":ro"}
	for _, f := range hostFolders {
		run = append(run, "--volume", f+":"+f+":ro")
	}
	_, err = e.docker(ctx, append(append(run, "survey"), arguments...)...)
	defer func() { _, _ = e.docker(context.WithoutCancel(ctx), "rm", "--force", name) }() // the engine goes next
	if err == nil {
		c.pid, err = c.inspect("{{.State.Pid}}")
	}
	if err == nil {
		err = measure(ctx, o, s, c, r)
	}
	if err != nil {
		r.Error = fmt.Sprintf("%v\nthe log ends:\n%s", err, lastBytes(c.log(), 6000))
	}
}

// container is an upgrader in one.
type container struct {
	*engine
	name string
	pid  int
}

func (c *container) inspect(format string) (int, error) {
	out, err := c.docker(context.Background(), "inspect", "--format", format, c.name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out)
}

func (c *container) call(ctx context.Context, arguments ...string) (string, string, int, error) {
	return outcome(c.client(ctx, append([]string{"exec", c.name, "/upgrader"}, arguments...)...))
}

func (c *container) ended() error {
	pid, err := c.inspect("{{.State.Pid}}")
	if err == nil && pid == 0 {
		code, _ := c.inspect("{{.State.ExitCode}}") // the reason is in the log
		err = fmt.Errorf("the container ended with %d", code)
	}
	return err
}

func (c *container) stop() (int, error) {
	if _, err := c.docker(context.Background(), "stop", "--time", "60", c.name); err != nil {
		return -1, err
	}
	return c.inspect("{{.State.ExitCode}}")
}

func (c *container) log() string {
	out, complaint, _, err := outcome(c.client(context.Background(), "logs", c.name))
	if err != nil {
		return err.Error()
	}
	return out + complaint
}

// dial makes connections from within the container's network.
func (c *container) dial() func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		type dialled struct {
			conn net.Conn
			err  error
		}
		result := make(chan dialled, 1)
		// A goroutine of its own, whose thread ends with it: it never comes back
		// to our network, so there is nothing that could fail to.
		go func() {
			runtime.LockOSThread()
			theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", c.pid))
			if err == nil {
				err = errors.Join(unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET), theirs.Close())
			}
			var conn net.Conn
			if err == nil {
				// One address and one attempt: the socket is made on this thread.
				conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
			}
			result <- dialled{conn, err}
		}()
		d := <-result
		return d.conn, d.err
	}
}
