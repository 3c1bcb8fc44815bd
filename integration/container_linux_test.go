package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/upgrader/upgrader/integration/lab"
	"github.com/upgrader/upgrader/integration/load"
)

// engine is a Docker engine for a test.
type engine struct {
	*lab.Engine
	t *testing.T
}

func startEngine(t *testing.T) *engine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: a Docker engine")
	}
	own, err := lab.StartEngine(t.Context(), newScratch(t, 0).dir)
	if errors.Is(err, lab.ErrNoEngine) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	nowLiving(own.Pid(), "dockerd")
	t.Cleanup(func() {
		own.Close()
		noLongerLiving(own.Pid())
		killAll(strays())
	})
	return &engine{own, t}
}

// try runs a docker command and gives its stdout.
func (e *engine) try(arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	return e.Docker(ctx, arguments...)
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
	recipe, err := os.ReadFile("../Dockerfile")
	if err != nil {
		e.t.Fatal(err)
	}
	for _, i := range []lab.Image{
		{Tag: "upgrader", Dockerfile: string(recipe), Target: "prebuilt", Programs: map[string]string{"bin/upgrader": upgraderBinary()}},
		{Tag: "server", Dockerfile: "FROM upgrader\nCOPY guest /guest\n", Programs: map[string]string{"guest": guestBinary()}},
	} {
		if err := e.Build(e.t.Context(), i); err != nil {
			e.t.Fatal(err)
		}
	}
}

// run starts a container of the server's image: as PID 1, without a single
// privilege and with nothing to write to but /tmp. It goes with the test.
func (e *engine) run(t *testing.T, name string, command ...string) container {
	t.Helper()
	c := container{&engine{e.Engine, t}, name}
	c.docker(append([]string{"run", "--detach", "--name", name, "--network", "none", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp", "server"}, command...)...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the container's output:\n%s", c.Logs(name))
		}
		_, _ = c.try("rm", "--force", name) // the engine goes next
	})
	return c
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
			c.t.Fatalf("the container ended with %s: %s", c.inspect("{{.State.ExitCode}}"), c.Logs(c.name))
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
			c := e.run(t, "up-"+strings.ReplaceAll(v.name, " ", "-"), v.command...)
			c.await(1)
			pid, err := strconv.Atoi(c.inspect("{{.State.Pid}}"))
			if err != nil {
				t.Fatal(err)
			}
			l := startLoad(t, load.Config{Address: "127.0.0.1:8080", Clients: 16, PerConnection: 1, Rate: 500, Dial: lab.DialIn(pid)})
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

// The promise of TestGoServer, in a container.
func TestContainerUnderLoad(t *testing.T) {
	e := startEngine(t)
	e.build()
	c := e.run(t, "loaded", "--listen", "8080", "--drain-max", "100", "--", "/guest", "-http", "env")
	c.await(1)
	pid, err := strconv.Atoi(c.inspect("{{.State.Pid}}"))
	if err != nil {
		t.Fatal(err)
	}
	swaps, requests := amount("INTEGRATION_SWAPS", 100), amount("INTEGRATION_REQUESTS", 300_000)
	l := startLoad(t, load.Config{Address: "127.0.0.1:8080", Clients: 200, PerConnection: 1, Dial: lab.DialIn(pid)})
	for generation := 2; generation < 2+swaps; generation++ {
		c.docker("exec", c.name, "/upgrader", "restart")
		awaitGeneration(t, l, generation)
		awaitMore(t, l, requests/swaps)
	}
	if r := lossless(t, fmt.Sprintf("%d swaps", swaps), l); r.Outcomes[load.OK] < requests {
		t.Errorf("%d requests, want %d", r.Outcomes[load.OK], requests)
	}
	c.docker("stop", "--time", "60", c.name)
	if code := c.inspect("{{.State.ExitCode}}"); code != "0" {
		t.Errorf("the container ended with %s", code)
	}
}
