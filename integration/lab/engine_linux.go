package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// ErrNoEngine: a container engine cannot run here. The error that wraps it says
// what is missing, or how the engine ended.
var ErrNoEngine = errors.New("no Docker engine runs here")

// patience is how long an engine may take to answer, and to end.
const patience = 90 * time.Second

// Engine is a Docker engine of its own. It pulls nothing.
type Engine struct {
	dir     string
	command *exec.Cmd
	gone    chan struct{} // closed when it has ended
}

// StartEngine starts an engine that keeps everything in dir, a folder with a
// short path for its sockets, and returns when it answers. The caller closes
// it; it ends with the caller in any case.
func StartEngine(ctx context.Context, dir string) (*Engine, error) {
	for _, tool := range []string{"dockerd", "docker", "containerd"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoEngine, err)
		}
	}
	e := &Engine{dir: dir, gone: make(chan struct{})}
	log, err := os.Create(e.path("dockerd.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the engine has its own
	e.command = exec.Command("dockerd", "--data-root", e.path("data"), "--exec-root", e.path("exec"), "--pidfile", e.path("pid"),
		"-H", e.host(), "--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs")
	e.command.Stdout, e.command.Stderr = log, log
	// A group of its own: Ctrl-C is its starter's to hand down, in order.
	e.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the end of the thread that forked would be taken for ours (prctl(2), PR_SET_PDEATHSIG)
		defer runtime.UnlockOSThread()
		err := e.command.Start()
		started <- err
		if err == nil {
			_ = e.command.Wait() // how it ends does not matter
			close(e.gone)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoEngine, err)
	}
	if err := e.answers(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// answers returns when the engine does.
func (e *Engine) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := e.Docker(ctx, "version")
		if err == nil {
			return nil
		}
		select {
		case <-e.gone:
			text, _ := os.ReadFile(e.path("dockerd.log")) // it says what there is to say
			return fmt.Errorf("%w: it ended: %s", ErrNoEngine, text[max(0, len(text)-2000):])
		case <-ctx.Done():
			return fmt.Errorf("the engine does not answer: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (e *Engine) path(name string) string { return filepath.Join(e.dir, name) }

func (e *Engine) host() string { return "unix://" + e.path("docker.sock") }

// Pid is the engine's.
func (e *Engine) Pid() int { return e.command.Process.Pid }

// Command is a command of the engine's client.
func (e *Engine) Command(ctx context.Context, arguments ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "docker", append([]string{"-H", e.host()}, arguments...)...)
	// The classic builder needs nothing beside the engine.
	c.Env = append(os.Environ(), "DOCKER_BUILDKIT=0", "DOCKER_CONFIG="+e.path("config"))
	return c
}

// Docker runs a command of the engine's client and gives its stdout, without
// the white space around it.
func (e *Engine) Docker(ctx context.Context, arguments ...string) (string, error) {
	c := e.Command(ctx, arguments...)
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(arguments, " "), err, &complaint)
	}
	return strings.TrimSpace(out.String()), nil
}

// Logs is what a container wrote so far; or why that is not known.
func (e *Engine) Logs(container string) string {
	text, err := e.Command(context.Background(), "logs", container).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s(%v)", text, err)
	}
	return string(text)
}

// Image is what an image is made of.
type Image struct {
	Tag        string
	Dockerfile string            // its text
	Target     string            // the stage of it; empty: the last one
	Programs   map[string]string // files of the context: the path in it, and what is copied there
	Links      map[string]string // symbolic links of the context: the path in it, and where it leads
}

// Build makes an image.
func (e *Engine) Build(ctx context.Context, i Image) error {
	dir, err := os.MkdirTemp(e.dir, "image")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // temporary: what is left goes with the engine's folder
	for name, from := range i.Programs {
		to := filepath.Join(dir, name)
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, text, 0o755)
		}
		if err != nil {
			return err
		}
	}
	for name, to := range i.Links {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(i.Dockerfile), 0o644); err != nil {
		return err
	}
	arguments := []string{"build", "--quiet", "--tag", i.Tag}
	if i.Target != "" {
		arguments = append(arguments, "--target", i.Target)
	}
	_, err = e.Docker(ctx, append(arguments, dir)...)
	return err
}

// Close ends the engine, and its containers with it. What is mounted below dir
// is gone then.
func (e *Engine) Close() {
	_ = e.command.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-e.gone:
	case <-time.After(patience):
		_ = e.command.Process.Kill() // as above
		<-e.gone
	}
}
