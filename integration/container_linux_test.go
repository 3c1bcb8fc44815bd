package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/integration/load"
)

// engine is a Docker engine of the test's own: nothing on the machine is
// touched, nothing is pulled.
type engine struct {
	t *testing.T
	s *scratch
}

func startEngine(t *testing.T) *engine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: a Docker engine")
	}
	need(t, "dockerd", "docker", "containerd")
	e := &engine{t: t, s: newScratch(t, 0)}
	log, err := os.Create(e.s.path("dockerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the engine has its own
	c := exec.Command("dockerd", "--data-root", e.s.path("data"), "--exec-root", e.s.path("exec"), "--pidfile", e.s.path("pid"),
		"-H", e.host(), "--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs")
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	nowLiving(c.Process.Pid, "dockerd")
	gone := make(chan struct{})
	go func() {
		_ = c.Wait() // how it ends does not matter
		close(gone)
	}()
	t.Cleanup(func() {
		_ = c.Process.Signal(unix.SIGTERM) // it may be gone already
		select {
		case <-gone:
		case <-time.After(patience):
			_ = c.Process.Kill() // as above
			<-gone
		}
		noLongerLiving(c.Process.Pid)
		killAll(strays())
	})
	eventually(t, "dockerd answers", func() error {
		select {
		case <-gone:
			text, _ := os.ReadFile(log.Name()) // it says what there is to say
			t.Skipf("needs a Docker engine, and it does not run here:\n%s", text[max(0, len(text)-2000):])
		default:
		}
		_, err := e.try("version")
		return err
	})
	return e
}

func (e *engine) host() string { return "unix://" + e.s.path("docker.sock") }

// try runs a docker command and gives its stdout.
func (e *engine) try(arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	c := exec.CommandContext(ctx, "docker", append([]string{"-H", e.host()}, arguments...)...)
	// The classic builder needs nothing beside the engine.
	c.Env = append(os.Environ(), "DOCKER_BUILDKIT=0", "DOCKER_CONFIG="+e.s.path("config"))
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(arguments, " "), err, &complaint)
	}
	return strings.TrimSpace(out.String()), nil
}

func (e *engine) docker(arguments ...string) string {
	e.t.Helper()
	out, err := e.try(arguments...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// build makes the image of the project's Dockerfile from the binary that is
// tested, and one with a server on top of it.
func (e *engine) build() {
	e.t.Helper()
	copyTo := func(from, to string) {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, text, 0o755)
		}
		if err != nil {
			e.t.Fatal(err)
		}
	}
	copyTo("../Dockerfile", e.s.path("base/Dockerfile"))
	copyTo(upgraderBinary(), e.s.path("base/bin/upgrader"))
	e.docker("build", "--quiet", "--target", "prebuilt", "--tag", "upgrader", e.s.path("base"))
	copyTo(guestBinary(), e.s.path("server/guest"))
	if err := os.WriteFile(e.s.path("server/Dockerfile"), []byte("FROM upgrader\nCOPY guest /guest\n"), 0o644); err != nil {
		e.t.Fatal(err)
	}
	e.docker("build", "--quiet", "--tag", "server", e.s.path("server"))
}

// dialIn makes connections from within the network namespace of a process.
func dialIn(pid int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		runtime.LockOSThread()
		theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			runtime.UnlockOSThread()
			return nil, err
		}
		defer func() { _ = theirs.Close() }() // nothing was written to it
		ours, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			return nil, err
		}
		defer func() { _ = ours.Close() }() // as above
		if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			return nil, fmt.Errorf("setns: %w", err)
		}
		// One address and one attempt: the socket is made on this thread.
		c, err := (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
		if unix.Setns(int(ours.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the thread ends with its goroutine
		}
		return c, err
	}
}

// container is a running one.
type container struct {
	*engine
	name string
}

func (c container) inspect(format string) string {
	c.t.Helper()
	return c.docker("inspect", "--format", format, c.name)
}

// await waits until the upgrader within says that generation serves.
func (c container) await(generation int) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("generation %d serves", generation), func() error {
		if c.inspect("{{.State.Running}}") != "true" {
			logs, err := exec.Command("docker", "-H", c.host(), "logs", c.name).CombinedOutput()
			c.t.Fatalf("the container ended with %s: %s (%v)", c.inspect("{{.State.ExitCode}}"), logs, err)
		}
		text, err := c.try("exec", c.name, "/upgrader", "status", "--json")
		if err != nil {
			return err
		}
		var s statusReport
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return err
		}
		if s.serving() != generation {
			return fmt.Errorf("state %s, generation %d serves", s.State, s.serving())
		}
		return nil
	})
}

// The upgrader is what a container starts: as PID 1, without a single
// privilege and with nothing to write to but /tmp.
func TestContainer(t *testing.T) {
	e := startEngine(t)
	e.build()
	for _, v := range []struct {
		name    string
		command []string
	}{
		{"claimed", []string{"--listen", "8080", "--", "/guest", "-http", "env"}},
		{"own bind", []string{"--", "/guest", "-http", "0.0.0.0:8080"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			e := &engine{t: t, s: e.s}
			c := container{e, "up-" + strings.ReplaceAll(v.name, " ", "-")}
			e.docker(append([]string{"run", "--detach", "--name", c.name, "--network", "none", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp", "server"}, v.command...)...)
			t.Cleanup(func() {
				if t.Failed() {
					logs, _ := exec.Command("docker", "-H", e.host(), "logs", c.name).CombinedOutput() // it says what there is to say
					t.Logf("the container's output:\n%s", logs)
				}
				_, _ = e.try("rm", "--force", c.name) // the engine goes next
			})
			c.await(1)
			pid, err := strconv.Atoi(c.inspect("{{.State.Pid}}"))
			if err != nil {
				t.Fatal(err)
			}
			l := startLoad(t, load.Config{Address: "127.0.0.1:8080", Clients: 16, PerConnection: 1, Rate: 500, Dial: dialIn(pid)})
			awaitMore(t, l, 50)
			swaps := amount("INTEGRATION_SWAPS", 3)
			for generation := 2; generation < 2+swaps; generation++ {
				c.docker("kill", "--signal", "USR2", c.name)
				c.await(generation)
				awaitGeneration(t, l, generation)
			}
			c.docker("exec", c.name, "/upgrader", "restart")
			awaitGeneration(t, l, 2+swaps)
			lossless(t, fmt.Sprintf("%d swaps", swaps+1), l)
			if now := c.inspect("{{.State.Pid}}"); now != strconv.Itoa(pid) {
				t.Errorf("PID 1 was process %d and is %s", pid, now)
			}
			eventually(t, "the predecessors are gone and waited for", func() error {
				var children []process
				for _, p := range processes() {
					if p.parent == pid {
						children = append(children, p)
					}
				}
				if len(children) != 1 {
					return fmt.Errorf("%v", children)
				}
				return nil
			})
			c.docker("stop", "--time", "20", c.name)
			if code := c.inspect("{{.State.ExitCode}}"); code != "0" {
				t.Errorf("the container ended with %s", code)
			}
		})
	}
}
