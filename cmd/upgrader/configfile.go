package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// An entry is what a configuration file says of one flag.
type entry struct {
	key    string // as written there
	line   int
	values []string // more than one for flags that may be repeated
}

// A section says what a file sets for one service, by names of flags.
type section struct {
	line    int
	flags   map[string]entry
	command []string // nil: none
	environ []string // KEY=VALUE
}

// A configFile is what --config names: one service, or several.
type configFile struct {
	path     string
	own      section // of the upgrader itself; of its only service too where services is nil
	defaults section // of every service
	names    []string
	services map[string]section // nil: the file describes one service
}

// readConfigFile reads a file. All that is wrong with it is told, each
// *lineError in a line.
func readConfigFile(path string) (*configFile, []error) {
	t, err := readTree(path)
	if err != nil {
		return nil, []error{err}
	}
	r := &sectionReader{path: path, known: knownFlags()}
	f := &configFile{path: path}
	if t.kind != mapping {
		r.wrong(t.line, "want KEY: VALUE lines, as in services: or command:")
		return nil, r.errs
	}
	services, several := t.find("services")
	if !several {
		f.own = r.section(t, oneService)
		return f, r.errs
	}
	rest := tree{line: t.line, kind: mapping}
	for _, b := range t.keys {
		switch b.key {
		case "services":
		case "defaults":
			f.defaults = r.section(b.value, defaults)
		default:
			rest.keys = append(rest.keys, b)
		}
	}
	f.own = r.section(rest, upgraderItself)
	f.services = map[string]section{}
	if services.value.kind != mapping || len(services.value.keys) == 0 {
		r.wrong(services.line, "services: wants a mapping with at least one service, as in\n  services:\n    web:\n      command: [./server]")
		return f, r.errs
	}
	for _, b := range services.value.keys {
		s := r.section(b.value, oneOfSeveral)
		s.line = b.line
		f.names = append(f.names, b.key)
		f.services[b.key] = s
	}
	return f, r.errs
}

// A place in a file decides which keys it may have.
type placeIn int

const (
	oneService     placeIn = iota // the whole file: any flag
	upgraderItself                // beside services: flags of the upgrader itself
	defaults                      // any flag that several services may have alike
	oneOfSeveral                  // any flag of a service
)

// ofUpgrader are the flags of the upgrader itself: a service of several has
// none of its own.
var ofUpgrader = map[string]bool{
	"name": true, "state-dir": true, "pid-file": true, "http": true, "http-token-file": true,
	"log-format": true, "log-level": true, "log-file": true, "daemon": true, "init": true,
}

// ofOne are flags that no two services can have alike.
var ofOne = map[string]bool{
	"listen": true, "id": true, "status-file": true, "forking-pid-file": true, "shm": true, "backup-dir": true, "proxy": true,
}

// commaLists are flags whose value is a list of words: a YAML list will do.
var commaLists = map[string]bool{"dialect": true, "canary": true, "proxy-trusted": true}

// restartKeys are the keys of RestartConfig, as servers' own configuration
// files have them: which flag each is, and the unit of a bare number.
var restartKeys = map[string]struct {
	flag string
	unit time.Duration // 0: a count
}{
	"MaxRetryCount":     {"retry-max", 0},
	"RetryInterval":     {"retry-interval", time.Second},
	"GracefulTimeout":   {"graceful-timeout", time.Second},
	"ForceKillTimeout":  {"stop-timeout", time.Second},
	"BackupInterval":    {"backup-interval", time.Second},
	"KillTimeout":       {"drain-timeout", time.Millisecond},
	"AutoExitTimeout":   {"linger-timeout", time.Millisecond},
	"EventProcessDelay": {"retire-delay", time.Millisecond},
}

// knownFlags are the flags of the main command.
func knownFlags() *pflag.FlagSet {
	set := pflag.NewFlagSet("upgrader", pflag.ContinueOnError)
	new(flags).register(set)
	return set
}

// sectionReader gathers what is wrong.
type sectionReader struct {
	path  string
	known *pflag.FlagSet
	errs  []error
}

func (r *sectionReader) wrong(line int, format string, a ...any) {
	r.errs = append(r.errs, &lineError{r.path, line, fmt.Errorf(format, a...)})
}

// section reads the keys of one mapping.
func (r *sectionReader) section(t tree, at placeIn) section {
	s := section{line: t.line, flags: map[string]entry{}}
	if t.kind == nothing {
		return s
	}
	if t.kind != mapping {
		r.wrong(t.line, "want KEY: VALUE lines")
		return s
	}
	for _, b := range t.keys {
		switch {
		case b.key == "command" && at != upgraderItself && at != defaults:
			s.command = r.command(b)
		case b.key == "environment" && at != upgraderItself:
			s.environ = r.environment(b)
		case b.key == "RestartConfig" && at != upgraderItself:
			r.restartConfig(&s, b)
		default:
			if r.allowed(b, at) {
				r.put(&s, b.key, b, r.values(b))
			}
		}
	}
	return s
}

// allowed tells whether a key may stand where it does.
func (r *sectionReader) allowed(b branch, at placeIn) bool {
	f := r.known.Lookup(b.key)
	switch {
	case f == nil || b.key == "config" || b.key == "help":
		r.wrong(b.line, "there is no key %s%s", b.key, r.like(b.key))
	case at == upgraderItself && !ofUpgrader[b.key]:
		r.wrong(b.line, "%s belongs to a service: write it there, or under defaults: for all of them", b.key)
	case at == oneOfSeveral && b.key == "name":
		r.wrong(b.line, "the name of a service is its key under services: leave name out")
	case (at == oneOfSeveral || at == defaults) && ofUpgrader[b.key]:
		r.wrong(b.line, "%s belongs to the upgrader itself: write it at the top of the file", b.key)
	case at == defaults && ofOne[b.key]:
		r.wrong(b.line, "%s cannot be the same for several services: write it in each", b.key)
	default:
		return true
	}
	return false
}

// like suggests the key that was meant.
func (r *sectionReader) like(key string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s))
	}
	var found string
	r.known.VisitAll(func(f *pflag.Flag) {
		if plain(f.Name) == plain(key) {
			found = f.Name
		}
	})
	for _, name := range slices.Sorted(maps.Keys(restartKeys)) {
		if found == "" && plain(name) == plain(key) {
			found = name + " under RestartConfig"
		}
	}
	if found == "" {
		return ": keys are the flags that upgrader --help lists, and command, environment, RestartConfig"
	}
	return ": it is called " + found
}

func (r *sectionReader) put(s *section, flag string, b branch, values []string) {
	if values == nil {
		return // told already
	}
	if old, twice := s.flags[flag]; twice {
		r.wrong(b.line, "%s says what %s in line %d said: leave one of them out", b.key, old.key, old.line)
		return
	}
	s.flags[flag] = entry{key: b.key, line: b.line, values: values}
}

// values reads the value of a flag's key; nil when it is wrong.
func (r *sectionReader) values(b branch) []string {
	flag := r.known.Lookup(b.key)
	_, repeated := flag.Value.(pflag.SliceValue)
	switch {
	case b.value.kind == scalar:
		if err := r.try(flag, b.value.text); err != nil {
			r.wrong(b.line, "%s: %v", b.key, err)
			return nil
		}
		return []string{b.value.text}
	case b.value.kind == list && (repeated || commaLists[b.key]):
		out := []string{}
		for _, one := range b.value.list {
			if one.kind != scalar {
				r.wrong(one.line, "%s: want a list of words", b.key)
				return nil
			}
			out = append(out, one.text)
		}
		if !repeated {
			return []string{strings.Join(out, ",")}
		}
		return out
	case b.value.kind == nothing:
		r.wrong(b.line, "%s: the value is missing", b.key)
	default:
		r.wrong(b.line, "%s: want one value", b.key)
	}
	return nil
}

// try sets a flag as a test, and says what is wrong in a file's words.
func (r *sectionReader) try(flag *pflag.Flag, text string) error {
	if err := flag.Value.Set(text); err == nil {
		return nil
	}
	switch flag.Value.Type() {
	case "duration":
		return fmt.Errorf("%q is no duration: write a number with its unit, as in 30s, 5m or 250ms", text)
	case "bool":
		return fmt.Errorf("%q: want true or false", text)
	default:
		return fmt.Errorf("%q: want %s", text, map[bool]string{true: "a whole number", false: "another value"}[flag.Value.Type() == "int"])
	}
}

// command reads a list of words, or a line of words without any quoting.
func (r *sectionReader) command(b branch) []string {
	switch b.value.kind {
	case list:
		out := []string{}
		for _, one := range b.value.list {
			if one.kind != scalar {
				r.wrong(one.line, "command: want a list of words, as in [./server, -v]")
				return nil
			}
			out = append(out, one.text)
		}
		if len(out) > 0 && out[0] != "" {
			return out
		}
	case scalar:
		if strings.ContainsAny(b.value.text, "\"'\\$`|&;<>()*?") {
			r.wrong(b.line, "command: no shell reads it: write a list, as in [sh, -c, %q]", b.value.text)
			return nil
		}
		if words := strings.Fields(b.value.text); len(words) > 0 {
			return words
		}
	case mapping, nothing:
	}
	r.wrong(b.line, "command: want a list of words, as in [./server, -v]")
	return nil
}

// environment reads a mapping of variables.
func (r *sectionReader) environment(b branch) (out []string) {
	if b.value.kind != mapping {
		r.wrong(b.line, "environment: want NAME: VALUE lines")
		return nil
	}
	for _, v := range b.value.keys {
		if v.value.kind != scalar && v.value.kind != nothing || v.key == "" || strings.ContainsAny(v.key, "=\x00") || strings.ContainsRune(v.value.text, 0) {
			r.wrong(v.line, "environment: %s: want NAME: VALUE", v.key)
			continue
		}
		out = append(out, v.key+"="+v.value.text)
	}
	return out
}

// restartConfig reads the keys of RestartConfig as the flags that they are.
func (r *sectionReader) restartConfig(s *section, b branch) {
	if b.value.kind != mapping {
		r.wrong(b.line, "RestartConfig: want KEY: VALUE lines, as in MaxRetryCount: 3")
		return
	}
	for _, v := range b.value.keys {
		key, known := restartKeys[v.key]
		switch {
		case !known && slices.Contains([]string{"DataBackupEnabled", "AutoBackupBeforeRestart", "DataValidationEnabled"}, v.key):
			r.wrong(v.line, "RestartConfig: %s is not needed: a segment (shm) is always snapshotted and checked before a swap; leave it out", v.key)
		case !known:
			r.wrong(v.line, "RestartConfig: there is no key %s: want %s", v.key, strings.Join(slices.Sorted(maps.Keys(restartKeys)), ", "))
		case v.value.kind != scalar:
			r.wrong(v.line, "RestartConfig: %s: want a number", v.key)
		default:
			text, err := restartValue(v.value.text, key.unit)
			if err != nil {
				r.wrong(v.line, "RestartConfig: %s: %v", v.key, err)
				continue
			}
			r.put(s, key.flag, branch{key: v.key, line: v.line}, []string{text})
		}
	}
}

// restartValue makes a flag's value of a number of units, or of a duration
// that says its unit.
func restartValue(text string, unit time.Duration) (string, error) {
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case unit == 0:
		if whole, err := strconv.Atoi(text); err != nil || whole < 0 {
			return "", fmt.Errorf("%q: want a whole number", text)
		}
		return text, nil
	case err == nil && n >= 0 && n*float64(unit) < float64(1<<62):
		return time.Duration(n * float64(unit)).String(), nil
	case err == nil:
		return "", fmt.Errorf("%q: too large, or negative", text)
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return "", errors.New(strconv.Quote(text) + ": want a number, or a duration with its unit, as in 30s")
	}
	return d.String(), nil
}
