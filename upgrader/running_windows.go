package upgrader

import (
	"os"

	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/process"
)

// recipeOf makes a recipe of a process that runs: its executable and its
// arguments. Its environment is not to be seen: ours has to do.
func recipeOf(id process.Identity) (*recipe, error) {
	args, err := id.Args()
	if err != nil {
		return nil, err
	}
	exe, err := id.Executable()
	if err != nil {
		return nil, err
	}
	held, err := launch.HoldIn("", exe.Path)
	if err != nil {
		return nil, err
	}
	if !id.Alive() {
		_ = held.Close()
		return nil, process.ErrGone
	}
	return &recipe{held: held, args: args, env: merge(os.Environ(), ours)}, nil
}
