package dialect

import (
	"slices"
	"strings"
)

// always is what no guest may inherit, whatever its dialect: the descriptors
// that these name, or the parent that they tell of, are ours.
func always() []string {
	return []string{
		"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "LISTEN_FDS_FIRST_FD",
		"SERVER_STARTER_PORT", "SERVER_STARTER_GENERATION",
		"SYSTEMFD_SOCKET_SERVER", "SYSTEMFD_SOCKET_SECRET",
		"TABLEFLIP_HAS_PARENT_7DIU3",
	}
}

// clears gives always and more.
func clears(more ...string) []string { return append(always(), more...) }

// Clear gives env without what the dialects clear, and without what no guest
// may inherit in any case. The order of the rest is kept; env is not changed.
func Clear(env []string, dialects []Dialect) []string {
	patterns := always()
	for _, d := range dialects {
		patterns = append(patterns, d.Clears()...)
	}
	out := make([]string, 0, len(env))
	for _, kv := range env {
		key, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(patterns, func(p string) bool { return matches(p, key) }) {
			out = append(out, kv)
		}
	}
	return out
}

// matches reports whether key is pattern, or pattern's prefix and a number.
func matches(pattern, key string) bool {
	prefix, family := strings.CutSuffix(pattern, "*")
	if !family {
		return key == pattern
	}
	number, ok := strings.CutPrefix(key, prefix)
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}
