package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/fleet"
	"github.com/upgrader/upgrader/upgrader/state"
)

// A plan is what the command line, the environment and the file of --config
// say together, the earlier winning.
type plan struct {
	own      flags             // of the upgrader itself
	services []upgrader.Config // one, unless several
	several  bool              // they are a fleet
	idle     []error           // what was given and has no effect
}

// makePlan makes a plan for the main command. command is nil when none was
// given behind --.
func makePlan(f *flags, set *pflag.FlagSet, command []string, lookup func(string) (string, bool)) (*plan, []error) {
	if err := fromEnvironment(set, lookup); err != nil {
		return nil, []error{err}
	}
	f.given = set.Changed
	if f.configFile == "" {
		c, err := f.parse(command)
		if err != nil {
			return nil, []error{err}
		}
		return &plan{own: *f, services: []upgrader.Config{c}, idle: f.idle(c)}, nil
	}
	file, errs := readConfigFile(f.configFile)
	if len(errs) > 0 {
		return nil, errs
	}
	if file.services == nil {
		return file.planOne(set, command)
	}
	if len(command) > 0 {
		return nil, []error{fmt.Errorf("--config %s describes services with commands of their own: leave out %q behind --", file.path, command[0])}
	}
	return file.planSeveral(set)
}

// lay gives flags their values: from above (given on the command line or by
// the environment), else from the first section that has one.
func lay(above *pflag.FlagSet, path string, sections ...section) (*flags, error) {
	var f flags
	set := pflag.NewFlagSet("upgrader", pflag.ContinueOnError)
	f.register(set)
	given := map[string]bool{}
	f.given = func(flag string) bool { return given[flag] }
	var first error
	set.VisitAll(func(to *pflag.Flag) {
		if first != nil {
			return
		}
		if above != nil && above.Lookup(to.Name) != nil && above.Lookup(to.Name).Changed {
			given[to.Name] = true
			first = copyFlag(to, above.Lookup(to.Name))
			return
		}
		for _, s := range sections {
			e, ok := s.flags[to.Name]
			if !ok {
				continue
			}
			given[to.Name] = true
			for _, v := range e.values {
				if err := to.Value.Set(v); err != nil {
					first = &lineError{path, e.line, fmt.Errorf("%s: %w", e.key, err)}
					return
				}
			}
			return
		}
	})
	return &f, first
}

func copyFlag(to, from *pflag.Flag) error {
	if many, ok := from.Value.(pflag.SliceValue); ok {
		return to.Value.(pflag.SliceValue).Replace(many.GetSlice())
	}
	return to.Value.Set(from.Value.String())
}

// planOne makes a plan of a file that describes one service.
func (c *configFile) planOne(set *pflag.FlagSet, command []string) (*plan, []error) {
	f, err := lay(set, c.path, c.own)
	if err != nil {
		return nil, []error{err}
	}
	if len(command) == 0 {
		command = c.own.command
	}
	if len(command) == 0 {
		return nil, []error{&lineError{c.path, c.own.line, errors.New("no command: write command: [./server], or the command behind -- on the command line")}}
	}
	config, err := c.config(f, command, c.own)
	if err != nil {
		return nil, []error{err}
	}
	return &plan{own: *f, services: []upgrader.Config{config}, idle: c.locateAll(f.idle(config), c.own)}, nil
}

// idle tells which of the flags have no effect on c.
func (f *flags) idle(c upgrader.Config) (all []error) {
	for _, i := range c.Idle(f.given) {
		all = append(all, fmt.Errorf("--%s has no effect: %s", i.Flag, i.Why))
	}
	return all
}

// locateAll is locate for several.
func (c *configFile) locateAll(errs []error, sections ...section) []error {
	for i, err := range errs {
		errs[i] = c.locate(err, sections...)
	}
	return errs
}

// planSeveral makes a plan of a file with services.
func (c *configFile) planSeveral(set *pflag.FlagSet) (*plan, []error) {
	own, err := lay(set, c.path, c.own)
	if err == nil {
		err = own.placeFleet(c.path)
	}
	if err != nil {
		return nil, []error{c.locate(err, c.own)}
	}
	p := &plan{own: *own, several: true}
	var errs []error
	if len(c.names) > 1 && set != nil {
		set.Visit(func(f *pflag.Flag) {
			if ofOne[f.Name] {
				errs = append(errs, fmt.Errorf("--%s is one service's, and %s has %d: write it there", f.Name, c.path, len(c.names)))
			}
		})
	}
	if len(errs) > 0 {
		return nil, errs
	}
	for _, name := range c.names {
		s := c.services[name]
		if err := state.CheckName(name); err != nil {
			errs = append(errs, &lineError{c.path, s.line, errors.New(strings.TrimPrefix(err.Error(), "state: "))})
			continue
		}
		if s.command == nil {
			errs = append(errs, &lineError{c.path, s.line, fmt.Errorf("%s has no command: write command: [./server]", name)})
			continue
		}
		f, err := lay(set, c.path, s, c.defaults)
		if err == nil {
			f.config.Name, f.config.StateDir, f.config.PidFile = name, fleet.ServiceDir(own.config.StateDir, name), ""
			var config upgrader.Config
			if config, err = c.config(f, s.command, s, c.defaults); err == nil {
				p.services = append(p.services, config)
				p.idle = append(p.idle, c.locateAll(f.idle(config), s, c.defaults)...)
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return p, append(errs, c.clashes(p.services)...)
}

// config makes the Config of one service. sections are where its flags come from.
func (c *configFile) config(f *flags, command []string, sections ...section) (upgrader.Config, error) {
	config, err := f.parse(command)
	if err == nil {
		err = config.Check()
	}
	if err != nil {
		return config, c.locate(err, sections...)
	}
	var environ []string
	for i := len(sections) - 1; i >= 0; i-- { // defaults first
		environ = append(environ, sections[i].environ...)
	}
	if len(environ) > 0 {
		config.Environ = append(os.Environ(), environ...)
	}
	return config, nil
}

// flagName is how errors of flags begin.
var flagName = regexp.MustCompile(`^(?:--|usage: )([a-z][a-z-]*)`)

// locate names the line that an error about a flag is about.
func (c *configFile) locate(err error, sections ...section) error {
	var located *lineError
	if errors.As(err, &located) {
		return err
	}
	m := flagName.FindStringSubmatch(err.Error())
	for _, s := range sections {
		if m == nil {
			break
		}
		if e, ok := s.flags[m[1]]; ok {
			text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "usage: "), "--")
			if e.key != m[1] {
				text = e.key + ": " + text
			}
			return &lineError{c.path, e.line, errors.New(text)}
		}
	}
	if len(sections) > 0 && m == nil {
		return &lineError{c.path, sections[0].line, err}
	}
	return err // of a flag on the command line, or of a variable
}

// clashes tells of addresses that two services claim.
func (c *configFile) clashes(services []upgrader.Config) (errs []error) {
	by := map[string]string{}
	for _, s := range services {
		claim := func(flag string, a listener.Address) {
			key := a.String()
			switch {
			case a.Path != "": // streams and datagrams cannot share one
				key = a.Path
			case a.Port == 0:
				return
			}
			if other, taken := by[key]; taken && other != s.Name {
				line := c.services[s.Name].flags[flag].line
				errs = append(errs, &lineError{c.path, line, fmt.Errorf("%s is claimed by %s too: give one of them another address", a, other)})
			}
			by[key] = s.Name
		}
		for _, a := range s.Listen {
			claim("listen", a)
		}
		for _, p := range s.Proxies {
			claim("proxy", p.Public)
		}
	}
	return errs
}

// placeFleet finds the name and the state dir of a fleet.
func (f *flags) placeFleet(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return f.placeAs(&f.config, filepath.Dir(path), []string{path})
}
