package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newRoot() *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:   "upgrader [flags] -- COMMAND [ARG...]",
		Short: "Keep a server's ports and connections up while its process is swapped",
		Long: `upgrader wraps a server: "upgrader -- ./server". The addresses stay claimed while
the server's process is swapped ("upgrader restart", or SIGUSR2), restarted after
a crash, or rolled back. Every flag is also an environment variable: --stop-signal
is UPGRADER_STOP_SIGNAL.`,
		Example: `  upgrader --listen :8080 -- ./server           the server takes its socket (LISTEN_FDS, SERVER_STARTER_PORT, ...)
  upgrader -- nginx -g 'daemon off;'            any server: its own bind(2) is taken over
  upgrader restart                              swap it; exit 0 committed, 1 rolled back, 2 failed`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case len(args) == 0 && dash < 0 && (f.configFile != "" || os.Getenv("UPGRADER_CONFIG") != ""):
				return wrap(&f, cmd.Flags(), nil)
			case len(args) == 0 && dash < 0:
				return &exit{exitUsage, errors.New("no command: write it behind --, as in: upgrader -- ./server (upgrader --help tells more)")}
			case dash < 0:
				return &exit{exitUsage, fmt.Errorf("%q is no command of upgrader: write the server's command behind --, as in: upgrader -- %s", args[0], strings.Join(args, " "))}
			case dash > 0:
				return &exit{exitUsage, fmt.Errorf("%q stands before --: flags of upgrader come before it, the server's command behind", args[0])}
			case len(args) == 0:
				return &exit{exitUsage, errors.New("no command behind --, as in: upgrader -- ./server")}
			}
			return wrap(&f, cmd.Flags(), args)
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &exit{exitUsage, fmt.Errorf("%w (upgrader --help lists the flags)", err)}
	})
	f.register(root.Flags())
	root.AddCommand(newStatus(), newRestart(), newRollback(), newReload(), newSelfUpgrade(), newSnapshot(), newStop(), newEvents(), newMonitor(), newConfig(), newAdopt(), newDoctor(), newDemo(), newDemoServer(), newStartServer(), newVersion())
	return root
}

// fromEnvironment sets each flag that was not given from UPGRADER_NAME.
func fromEnvironment(set *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var first error
	set.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || first != nil {
			return
		}
		name := "UPGRADER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if !ok || value == "" {
			return
		}
		if err := set.Set(f.Name, value); err != nil {
			first = fmt.Errorf("%s: %w", name, err)
		}
	})
	return first
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), "upgrader", version())
			return nil
		},
	}
}

// version is what the build says of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	return v + " " + info.GoVersion
}

// oneLine makes one line of an error's text.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}
