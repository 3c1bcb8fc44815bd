package dialect

import (
	"strconv"
	"strings"
)

// systemd is the protocol of sd_listen_fds(3): descriptors from 3 on, their
// number in LISTEN_FDS, their names in LISTEN_FDNAMES, and LISTEN_PID (and
// LISTEN_PIDFDID since v258) so that no descendant takes them for its own.
type systemd struct{}

func (systemd) Name() string { return "systemd" }

func (systemd) Clears() []string { return clears() }

func (systemd) Environ(all []Lane, _ int) []Variable {
	if len(all) == 0 {
		return nil
	}
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = fdName(l)
	}
	return []Variable{
		{Key: "LISTEN_FDS", Value: strconv.Itoa(len(all))},
		{Key: "LISTEN_FDNAMES", Value: strings.Join(names, ":")},
		{Key: "LISTEN_PID", Pid: true},
		{Key: "LISTEN_PIDFDID", Pidfd: true},
	}
}

// fdNameMax is the length that systemd allows a name.
const fdNameMax = 255

// fdName gives l a name that sd_listen_fds_with_names(3) accepts: printable
// ASCII without the separator, so that the count of names always matches the
// count of descriptors. What cannot stand in a name becomes '_'.
func fdName(l Lane) string {
	name := l.Claim
	if name == "" {
		if l.Stored {
			return "stored"
		}
		return "unknown" // what systemd calls a socket without a name
	}
	clean := []byte(name)
	for i, c := range clean {
		if c < ' ' || c >= 0x7f || c == ':' {
			clean[i] = '_'
		}
	}
	return string(clean[:min(len(clean), fdNameMax)])
}
