package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// starterName is the name by which this program is Server::Starter's.
const starterName = "start_server"

// starterVersion is the Server::Starter whose behaviour is meant.
const starterVersion = "0.35"

// The exit statuses of that program.
const (
	starterOptions = 1   // an option that is not understood
	starterFailed  = 255 // what its die gives
)

const starterUsage = `Usage:
  start_server [options] -- server-prog server-arg1 server-arg2 ...

Starts a server on sockets that it finds in SERVER_STARTER_PORT, and swaps it on
SIGHUP without refusing anybody. SIGTERM stops it, and so does SIGINT.

  --port=(port|host:port|port=fd|host:port=fd)
                            TCP address to listen at, IPv6 in square brackets; with
                            a u in front of the port: UDP; with =fd: as this
                            descriptor of the server; repeatable
  --path=path               unix socket to listen at; repeatable
  --backlog=size            depth of the queues of connections (default: the system's)
  --dir=path                working directory of the server
  --interval=seconds        how long a server must live to be taken for ready, and
                            pause between starts that fail, which grows (default: 1)
  --signal-on-hup=SIGNAL    what tells an old server to quit after a swap (TERM)
  --signal-on-term=SIGNAL   what tells the server to quit when SIGTERM comes (TERM)
  --pid-file=file           our pid, locked while we run
  --status-file=file        a line GENERATION:PID for each server that runs
  --envdir=dir              variables of the server, a file each, read again at each
                            start (or ENVDIR)
  --log-file=file           stdout and stderr go there
  --log-file="| command"    stdout and stderr go to this command
  --daemonize               run in the background; needs --log-file
  --enable-auto-restart     swap from time to time (or ENABLE_AUTO_RESTART)
  --auto-restart-interval=seconds
                            how often (360; or AUTO_RESTART_INTERVAL)
  --kill-old-delay=seconds  how long an old server goes on after a swap (0; with
                            --enable-auto-restart 5; or KILL_OLD_DELAY)
  --restart                 swap the server of --pid-file and --status-file, and wait:
                            exit 0 done, 1 the new server fails, 2 nobody answers
  --stop                    stop the server of --pid-file, and wait
  --help, --version

UPGRADER_STOP_TIMEOUT (10s) and UPGRADER_DRAIN_TIMEOUT (5m) are the times after
which a server that does not quit is killed: at a stop, and after a swap.
`

// starterMode is what one call is for.
type starterMode string

const (
	starterRun     starterMode = ""
	starterStop    starterMode = "stop"
	starterRestart starterMode = "restart"
	starterHelp    starterMode = "help"
	starterTell    starterMode = "version"
)

// starter is one command line.
type starter struct {
	mode       starterMode
	ports      []string
	paths      []string
	dir        string
	interval   *seconds
	hup, term  string // names of signals; "": TERM
	pidFile    string
	statusFile string
	logFile    string
	envdir     *string
	auto       bool
	autoEvery  *seconds
	killDelay  *seconds
	backlog    int
	daemonize  bool
	command    []string
}

// calledStarter reports whether this program was called by Server::Starter's name.
func calledStarter(name string) bool {
	return strings.TrimSuffix(filepath.Base(name), ".exe") == starterName
}

func newStartServer() *cobra.Command {
	return &cobra.Command{
		Use:                "start-server [options] -- COMMAND [ARG...]",
		Short:              "Be start_server of Server::Starter (so it is when called by that name, too)",
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return startServer(args, os.Stdout) },
	}
}

// startServer is start_server with args.
func startServer(args []string, out io.Writer) error {
	s, err := parseStarter(args)
	if err != nil {
		return &exit{starterOptions, fmt.Errorf("%w (--help lists the options)", err)}
	}
	switch s.mode {
	case starterHelp:
		_, err = io.WriteString(out, starterUsage)
	case starterTell:
		_, err = fmt.Fprintf(out, "%s (upgrader %s)\n", starterVersion, version())
	case starterStop:
		err = s.stop()
	case starterRestart:
		err = s.restart(out)
	default:
		err = s.run()
	}
	var e *exit
	if err != nil && !errors.As(err, &e) {
		return &exit{starterFailed, err}
	}
	return err
}

// check refuses what cannot be; the words are those of that program.
func (s *starter) check() error {
	switch s.mode {
	case starterStop:
		if s.pidFile == "" {
			return errors.New("--stop option requires --pid-file to be set as well")
		}
	case starterRestart:
		if s.pidFile == "" || s.statusFile == "" {
			return errors.New("--restart option requires --pid-file and --status-file to be set as well")
		}
	case starterRun:
		if s.daemonize && s.logFile == "" {
			return errors.New("--log-file option must be specified together with --daemonize")
		}
		if len(s.command) == 0 {
			return errors.New("server program not specified")
		}
	}
	return nil
}
