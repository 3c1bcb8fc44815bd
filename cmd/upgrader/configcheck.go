package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/launch"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Look at a file for --config", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return &exit{exitUsage, errors.New("say what to do with it, as in: upgrader config check services.yaml")}
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Tell all that is wrong with a file for --config, and what in it has no effect, without running anything",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, idle, errs := checkConfig(args[0])
			for _, err := range append(errs, idle...) {
				fmt.Fprintln(cmd.ErrOrStderr(), oneLine(err.Error()))
			}
			if len(errs) > 0 {
				return &exit{exitUsage, nil}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", args[0], strings.Join(names, ", "))
			return err
		},
	})
	return cmd
}

// checkConfig gives the names of the services of a file, what in it has no
// effect here, and all that is wrong with it: what is written, and what it names
// on this machine.
func checkConfig(path string) (names []string, idle, errs []error) {
	file, errs := readConfigFile(path)
	if len(errs) > 0 {
		return nil, nil, errs
	}
	none := pflag.NewFlagSet("upgrader", pflag.ContinueOnError)
	var p *plan
	if file.services == nil {
		p, errs = file.planOne(none, nil)
	} else {
		p, errs = file.planSeveral(none)
	}
	if p == nil {
		return nil, nil, errs
	}
	for _, c := range p.services {
		names = append(names, c.Name)
		s := file.own
		if file.services != nil {
			s = file.services[c.Name]
		}
		for _, err := range missing(c) {
			errs = append(errs, &lineError{path, s.line, fmt.Errorf("%s: %w", c.Name, err)})
		}
	}
	return names, p.idle, errs
}

// missing tells what of a service is not there.
func missing(c upgrader.Config) (errs []error) {
	if held, err := launch.HoldIn(c.Dir, c.Command[0]); err != nil {
		errs = append(errs, err)
	} else {
		_ = held.Close() // it was only looked at
	}
	if c.EnvFile != "" {
		if _, err := os.Stat(c.EnvFile); err != nil {
			errs = append(errs, fmt.Errorf("env-file: %w", err))
		}
	}
	return errs
}
