package upgrader

import (
	"fmt"
	"os"
	"strings"
)

// readEnvFile reads KEY=VALUE lines. Empty lines and lines that begin with #
// or ; mean nothing; one pair of quotes around a value is taken off, as
// systemd's EnvironmentFile= does.
func readEnvFile(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("upgrader: environment file: %w", err)
	}
	var env []string
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" || strings.ContainsAny(key, " \t\x00") || strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("upgrader: environment file %s, line %d: no KEY=VALUE", path, i+1)
		}
		value = strings.TrimSpace(value)
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		env = append(env, key+"="+value)
	}
	return env, nil
}

// merge gives base with every variable of the overlays set, later ones
// winning, and those named in without taken away. Order is kept.
func merge(base []string, without map[string]bool, overlays ...[]string) []string {
	at := make(map[string]int, len(base))
	out := make([]string, 0, len(base))
	put := func(kv string) {
		key, _, ok := strings.Cut(kv, "=")
		if !ok {
			return
		}
		if i, seen := at[key]; seen {
			out[i] = kv
			return
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	for _, kv := range base {
		if key, _, _ := strings.Cut(kv, "="); !without[key] {
			put(kv)
		}
	}
	for _, o := range overlays {
		for _, kv := range o {
			put(kv)
		}
	}
	return out
}
