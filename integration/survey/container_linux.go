package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/upgrader/upgrader/integration/lab"
)

// engine is a Docker engine with the one image that rows run in.
type engine struct {
	*lab.Engine
	place
}

// containerRows measures servers in containers, so many at a time.
func containerRows(ctx context.Context, o options, chosen []server) []Row {
	e, err := startEngine(ctx, o)
	if err == nil {
		defer e.close()
	}
	return inTurns(o, chosen, func(i int, s server) Row {
		r := Row{Server: s.name, Way: inContainer, Strategy: s.strategy, Signal: s.signal, Fallback: s.fallback}
		missing := s.missing()
		switch {
		case err != nil:
			r.Skipped = strings.SplitN(err.Error(), "\n", 2)[0]
		case missing != "":
			r.Skipped = "needs " + missing
		default:
			e.row(ctx, o, s, fmt.Sprintf("up%d", i), &r)
		}
		return r
	})
}

func startEngine(ctx context.Context, o options) (*engine, error) {
	dir, err := os.MkdirTemp("/tmp", "sv")
	if err != nil {
		return nil, err
	}
	e := &engine{place: place{dir: dir, bin: o.Bin}}
	if e.Engine, err = lab.StartEngine(ctx, dir); err == nil {
		err = e.Build(ctx, image(o.Bin))
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *engine) close() {
	if e.Engine != nil {
		e.Close()
	}
	// Layers of vfs are plain folders; what is mounted below exec-root goes with its engine.
	_ = os.RemoveAll(e.dir) // temporary: what is left is the system's to clean
}

// hostFolders are what servers of the machine need of it, in a container.
var hostFolders = []string{"/usr", "/etc"}

// image is the one image: the upgrader, and the names by which what is in /usr is known.
func image(bin string) lab.Image {
	i := lab.Image{
		Tag:        "survey",
		Dockerfile: "FROM scratch\nCOPY root/ /\nUSER 65534:65534\nENTRYPOINT [\"/upgrader\"]\n",
		Programs:   map[string]string{"root/upgrader": filepath.Join(bin, "upgrader")},
		Links:      map[string]string{},
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		i.Links["root/"+name] = "usr/" + name
	}
	return i
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
	_, err = e.Docker(ctx, append(append(run, "survey"), arguments...)...)
	defer func() { _, _ = e.Docker(context.WithoutCancel(ctx), "rm", "--force", name) }() // the engine goes next
	if err == nil {
		c.pid, err = c.inspect("{{.State.Pid}}")
	}
	if err == nil {
		err = measure(ctx, o, s, c, r)
	}
	if err != nil {
		r.Error = fmt.Sprintf("%v\nthe log ends:\n%s", err, lastBytes(c.log(), 6000))
	}
	if o.Keep {
		_ = os.WriteFile(filepath.Join(p.dir, "log"), []byte(c.log()), 0o644) // a help to whoever looks for something
	}
}

// container is an upgrader in one.
type container struct {
	*engine
	name string
	pid  int
}

func (c *container) inspect(format string) (int, error) {
	out, err := c.Docker(context.Background(), "inspect", "--format", format, c.name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out)
}

func (c *container) call(ctx context.Context, arguments ...string) (string, string, int, error) {
	return outcome(c.Command(ctx, append([]string{"exec", c.name, "/upgrader"}, arguments...)...))
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
	if _, err := c.Docker(context.Background(), "stop", "--time", "60", c.name); err != nil {
		return -1, err
	}
	return c.inspect("{{.State.ExitCode}}")
}

func (c *container) log() string { return c.Logs(c.name) }

// dial makes connections from within the container's network.
func (c *container) dial() func(context.Context, string, string) (net.Conn, error) {
	return lab.DialIn(c.pid)
}
