package main

import (
	"strings"
	"time"

	"github.com/upgrader/upgrader/upgrader"
)

// starterEnv is the environment of start_server: what we were called with,
// what options say in its place, and a directory above both that is read again
// at each question. It holds policy for us as well as variables for the server.
type starterEnv struct {
	base []string
	dir  string // "": none
}

// environ takes the environment that we were called with. Options are put into
// it, as there: the server finds them.
func (s *starter) environ(called []string) starterEnv {
	set := map[string]string{}
	if s.envdir != nil {
		set["ENVDIR"] = *s.envdir
	}
	if s.auto {
		set["ENABLE_AUTO_RESTART"] = "1"
	}
	if s.autoEvery != nil {
		set["AUTO_RESTART_INTERVAL"] = s.autoEvery.String()
	}
	if s.killDelay != nil {
		set["KILL_OLD_DELAY"] = s.killDelay.String()
	}
	e := starterEnv{}
	for _, kv := range called {
		key, _, _ := strings.Cut(kv, "=")
		if _, over := set[key]; !over {
			e.base = append(e.base, kv)
		}
	}
	for _, key := range []string{"ENVDIR", "ENABLE_AUTO_RESTART", "AUTO_RESTART_INTERVAL", "KILL_OLD_DELAY"} {
		if v, ok := set[key]; ok {
			e.base = append(e.base, key+"="+v)
		}
	}
	e.dir, _ = find(e.base, "ENVDIR")
	return e
}

// find gives the last value of a variable.
func find(env []string, key string) (string, bool) {
	value, found := "", false
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			value, found = v, true
		}
	}
	return value, found
}

// lookup asks for a variable as it is now.
func (e starterEnv) lookup(key string) (string, bool) {
	if e.dir != "" {
		if v, ok := find(upgrader.ReadEnvDir(e.dir), key); ok {
			return v, true
		}
	}
	return find(e.base, key)
}

// auto tells whether the server is swapped from time to time, and how often.
func (e starterEnv) auto() (bool, time.Duration) {
	if v, _ := e.lookup("ENABLE_AUTO_RESTART"); v == "" || v == "0" { // what is false to Perl
		return false, 0
	}
	if v, ok := e.lookup("AUTO_RESTART_INTERVAL"); ok {
		if n, err := parseSeconds(v); err == nil && n > 0 {
			return true, time.Duration(n)
		}
	}
	return true, 360 * time.Second
}

// killOldDelay tells how long a predecessor goes on after a swap.
func (e starterEnv) killOldDelay() time.Duration {
	if v, ok := e.lookup("KILL_OLD_DELAY"); ok {
		n, _ := parseSeconds(v) // 0 if it is no number, as Perl takes it
		return time.Duration(n)
	}
	if auto, _ := e.auto(); auto {
		return 5 * time.Second
	}
	return 0
}
