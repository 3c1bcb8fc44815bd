package integration

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/upgrader/upgrader/integration/lab"
	"github.com/upgrader/upgrader/integration/load"
)

// In a container PID 1 is the small init: it stays whatever becomes of the
// upgrader below it.
func TestSelfUpgradeInContainer(t *testing.T) {
	upgrades := selfUpgrades()
	e := startEngine(t)
	e.build()
	for _, v := range []struct {
		name    string
		command []string
		n       int
	}{
		{"claimed", []string{"--listen", "8080", "--", "/guest", "-http", "env"}, upgrades},
		{"own-bind", []string{"--", "/guest", "-http", "0.0.0.0:8080"}, 3},
	} {
		t.Run(v.name, func(t *testing.T) {
			c := e.run(t, "self-"+v.name, v.command...)
			c.await(1)
			pid, err := strconv.Atoi(c.inspect("{{.State.Pid}}"))
			if err != nil {
				t.Fatal(err)
			}
			l := startLoad(t, load.Config{Address: "127.0.0.1:8080", Clients: 16, PerConnection: 2, Rate: 500, Dial: lab.DialIn(pid)})
			awaitMore(t, l, 50)
			for i := range v.n {
				c.docker("exec", c.name, "/upgrader", "self-upgrade")
				awaitGeneration(t, l, 2+i)
			}
			lossless(t, fmt.Sprintf("%d self-upgrades", v.n), l)
			if now := c.inspect("{{.State.Pid}}"); now != strconv.Itoa(pid) || c.inspect("{{.RestartCount}}") != "0" {
				t.Errorf("PID 1 was process %d and is %s", pid, now)
			}
			eventually(t, "the upgrader alone is below PID 1", func() error {
				var children []process
				for _, p := range processes() {
					if p.parent == pid {
						children = append(children, p)
					}
				}
				if len(children) != 1 || children[0].name != "upgrader" {
					return fmt.Errorf("%v", children)
				}
				return nil
			})
			c.docker("kill", "--signal", "USR2", c.name) // through the init
			c.await(2 + v.n)
			c.docker("stop", "--time", "20", c.name)
			if code := c.inspect("{{.State.ExitCode}}"); code != "0" {
				t.Errorf("the container ended with %s", code)
			}
		})
	}
}
