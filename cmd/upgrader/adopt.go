package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/launch"
)

func newAdopt() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "adopt [flags] PID [-- COMMAND [ARG...]]",
		Short: "Take over a server that runs already, with the sockets that it serves on",
		Long: `The server becomes generation 1 and goes on as before; the first swap ("upgrader
restart") goes to a generation of ours. Its command, environment, folder and user
are taken from the process, unless a command is given behind --. The flags are
those of "upgrader -- COMMAND". Linux 5.6, and what ptrace needs.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ours, command := args, []string(nil)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				ours, command = args[:dash], args[dash:]
			}
			if len(ours) != 1 {
				return &exit{exitUsage, errors.New("want the pid of one server, as in: upgrader adopt 1234")}
			}
			pid, err := strconv.Atoi(ours[0])
			if err != nil || pid <= 0 {
				return &exit{exitUsage, fmt.Errorf("%q is no pid", ours[0])}
			}
			foreign, err := upgrader.LookAt(pid)
			if err != nil {
				code := exitSystem
				if errors.Is(err, upgrader.ErrUsage) {
					code = exitUsage
				}
				return &exit{code, err}
			}
			c := &f.config
			if c.Adopt, c.Environ, c.User = &foreign, foreign.Environ, foreign.User; !cmd.Flags().Changed("dir") {
				c.Dir = foreign.Dir
			}
			if len(command) == 0 {
				if command, err = commandOf(foreign); err != nil {
					return &exit{exitUsage, err}
				}
			}
			return wrap(&f, cmd.Flags(), command)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// commandOf is what a server was started with. Some write other things over
// their arguments: then what is there names no such program.
func commandOf(f upgrader.Foreign) ([]string, error) {
	unknown := fmt.Errorf("the command line of process %d is not what it was started with: give the command behind --, as in: upgrader adopt %[1]d -- COMMAND", f.Main.Pid)
	if len(f.Args) == 0 {
		return nil, unknown
	}
	held, err := launch.HoldIn(f.Dir, f.Args[0])
	if err != nil {
		return nil, unknown
	}
	defer held.Close() // it was only looked for
	if held.Dev == f.Exe.Dev && held.Ino == f.Exe.Ino {
		return f.Args, nil
	}
	if f.Exe.Deleted && filepath.Base(held.Path) == filepath.Base(f.Exe.Path) { // a new version lies there
		return f.Args, nil
	}
	if _, err := os.Stat(f.Exe.Path); err == nil && held.Path == f.Exe.Path {
		return f.Args, nil
	}
	return nil, unknown
}
