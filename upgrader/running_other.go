//go:build !windows

package upgrader

import (
	"os"
	"strconv"

	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/process"
)

// recipeOf makes a recipe of a process that runs: its executable, arguments
// and environment.
func recipeOf(id process.Identity) (*recipe, error) {
	base := "/proc/" + strconv.Itoa(id.Pid)
	args, err := os.ReadFile(base + "/cmdline")
	if err != nil {
		return nil, err
	}
	env, err := os.ReadFile(base + "/environ")
	if err != nil {
		return nil, err
	}
	held, err := launch.HoldIn("", base+"/exe")
	if err != nil {
		return nil, err
	}
	if !id.Alive() {
		_ = held.Close()
		return nil, process.ErrGone
	}
	return &recipe{held: held, args: fields(args), env: merge(fields(env), ours), adopted: true}, nil
}
