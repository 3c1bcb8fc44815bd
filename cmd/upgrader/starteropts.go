package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// seconds is a time as start_server takes it: a number of seconds; and, of
// ours, 200ms and the like.
type seconds time.Duration

func parseSeconds(s string) (seconds, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 && n < math.MaxInt32 {
		return seconds(n * float64(time.Second)), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return seconds(d), nil
	}
	return 0, fmt.Errorf("%q is no number of seconds", s)
}

// starterOption is what one option does; value is "" for those that take none.
type starterOption struct {
	takes bool
	set   func(value string) error
}

// options are those of start_server.
func (s *starter) options() map[string]starterOption {
	text := func(to *string) starterOption {
		return starterOption{true, func(v string) error { *to = v; return nil }}
	}
	list := func(to *[]string) starterOption {
		return starterOption{true, func(v string) error { *to = append(*to, v); return nil }}
	}
	span := func(to **seconds) starterOption {
		return starterOption{true, func(v string) error {
			n, err := parseSeconds(v)
			*to = &n
			return err
		}}
	}
	on := func(to *bool) starterOption {
		return starterOption{false, func(string) error { *to = true; return nil }}
	}
	mode := func(m starterMode) starterOption {
		return starterOption{false, func(string) error {
			// As there: help before version before restart before stop.
			order := []starterMode{starterHelp, starterTell, starterRestart, starterStop, starterRun}
			if slices.Index(order, m) < slices.Index(order, s.mode) {
				s.mode = m
			}
			return nil
		}}
	}
	return map[string]starterOption{
		"port": list(&s.ports), "path": list(&s.paths), "dir": text(&s.dir), "interval": span(&s.interval),
		"signal-on-hup": text(&s.hup), "signal-on-term": text(&s.term),
		"pid-file": text(&s.pidFile), "status-file": text(&s.statusFile), "log-file": text(&s.logFile),
		"envdir":              {true, func(v string) error { s.envdir = &v; return nil }},
		"enable-auto-restart": on(&s.auto), "auto-restart-interval": span(&s.autoEvery), "kill-old-delay": span(&s.killDelay),
		"backlog": {true, func(v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				return fmt.Errorf("%q is no depth of a queue", v)
			}
			s.backlog = n
			return nil
		}},
		"daemonize": on(&s.daemonize),
		"restart":   mode(starterRestart), "stop": mode(starterStop), "help": mode(starterHelp), "version": mode(starterTell),
	}
}

// parseStarter reads a command line by the rules of Perl's Getopt::Long: one
// dash or two, names shortened as far as they stay unique and in any case,
// --name=value or the value behind, other words in between, -- before the rest.
func parseStarter(args []string) (*starter, error) {
	s := &starter{}
	options := s.options()
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "--" {
			s.command = append(s.command, args...)
			break
		}
		name, dashed := strings.CutPrefix(word, "-")
		if !dashed || name == "" {
			s.command = append(s.command, word)
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		full, err := complete(options, name)
		if err != nil {
			return nil, err
		}
		o := options[full]
		switch {
		case !o.takes && given:
			return nil, fmt.Errorf("option %s does not take an argument", full)
		case o.takes && !given && len(args) == 0:
			return nil, fmt.Errorf("option %s requires an argument", full)
		case o.takes && !given:
			value, args = args[0], args[1:]
		}
		if err := o.set(value); err != nil {
			return nil, fmt.Errorf("option %s: %w", full, err)
		}
	}
	return s, s.check()
}

// complete finds the option that name means.
func complete(options map[string]starterOption, name string) (string, error) {
	name = strings.ToLower(name)
	if _, ok := options[name]; ok {
		return name, nil
	}
	var fit []string
	for _, full := range slices.Sorted(maps.Keys(options)) {
		if strings.HasPrefix(full, name) {
			fit = append(fit, full)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) == 0 || name == "":
		return "", fmt.Errorf("unknown option: %s", name)
	default:
		return "", fmt.Errorf("option %s is ambiguous (%s)", name, strings.Join(fit, ", "))
	}
}

// String is the number that a server may read: whole seconds where they are.
func (n seconds) String() string {
	return strconv.FormatFloat(time.Duration(n).Seconds(), 'f', -1, 64)
}

// pipedTo tells whether a log file is a command, and which.
func pipedTo(logFile string) (string, bool) {
	command, piped := strings.CutPrefix(strings.TrimLeft(logFile, " \t\n"), "|")
	return strings.TrimSpace(command), piped
}
