package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/self"
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
			foreign, before, err := lookAt(pid)
			if err != nil {
				code := exitSystem
				if errors.Is(err, upgrader.ErrUsage) {
					code = exitUsage
				}
				return &exit{code, err}
			}
			kept, err := keepFor(foreign)
			if err != nil {
				return &exit{exitSystem, err}
			}
			defer kept.Close() // an upgrader that took over has read it
			c := &f.config
			if c.Adopt, c.Environ, c.User = &foreign, foreign.Environ, foreign.User; !cmd.Flags().Changed("dir") {
				c.Dir = foreign.Dir
			}
			if len(command) == 0 && before {
				command = foreign.Args
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

// adoptedVariable tells the next upgrader where it finds how the server ran
// that was adopted: that one may be gone by then.
const adoptedVariable = "UPGRADER_ADOPTED"

// lookAt tells how the server runs that is to be adopted, or ran when the
// upgrader before this one adopted it.
func lookAt(pid int) (f upgrader.Foreign, before bool, err error) {
	path := os.Getenv(adoptedVariable)
	_ = os.Unsetenv(adoptedVariable) // an error is for names that cannot be
	if path == "" || !self.Succeeds() {
		f, err = upgrader.LookAt(pid)
		return f, false, err
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err == nil && f.Main.Pid != pid {
		err = fmt.Errorf("process %d was adopted", f.Main.Pid)
	}
	if err != nil {
		return f, true, fmt.Errorf("how process %d ran when it was adopted is not known: %w", pid, err)
	}
	return f, true, nil
}

// keepFor keeps that for a next upgrader, which reads it while this process,
// that it is started by, still runs.
func keepFor(f upgrader.Foreign) (*os.File, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	kept, err := os.CreateTemp("", "upgrader-adopted-") // for its owner alone
	if err != nil {
		return nil, err
	}
	_ = os.Remove(kept.Name()) // nobody finds it but by our descriptor
	if _, err = kept.Write(text); err == nil {
		err = os.Setenv(adoptedVariable, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), kept.Fd()))
	}
	if err != nil {
		_ = kept.Close() // of no use
		return nil, err
	}
	return kept, nil
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
