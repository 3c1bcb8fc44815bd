package dialect

import (
	"fmt"
	"slices"
	"strings"
)

// FirstFd is the number of the first descriptor that is passed; the others
// follow without gaps. systemd's protocol fixes it, every other dialect takes
// any.
const FirstFd = 3

// A Lane is one descriptor that a guest is given.
type Lane struct {
	Claim   string // the claim's name; systemd's LISTEN_FDNAMES
	Spec    string // the address as the user gave it, without NAME=
	Network string // tcp tcp4 tcp6 udp udp4 udp6 unix unixgram
	Fd      int    // its number in the guest
	Stored  bool   // not a lane but a descriptor that a predecessor parked; it comes behind all lanes, and only systemd's dialect knows such
}

// A Variable is one entry of an environment. At most one of the marks is set;
// Value is then empty, and the launch shim fills it in.
type Variable struct {
	Key, Value string
	Pid        bool // the value is the pid of the guest
	Pidfd      bool // the value is the inode number of the guest's pidfd; left out where the kernel has none
}

// A Dialect is one way in which servers expect to be told of their sockets.
type Dialect interface {
	// Name is what --dialect calls it.
	Name() string
	// Environ gives the variables for a start of a generation (1, 2, …; failed
	// starts included). What the dialect cannot say is left out: see Check.
	Environ(lanes []Lane, generation int) []Variable
	// Clears lists the variables that must not be inherited. One that ends
	// in * stands for its prefix followed by a number: see Clear.
	Clears() []string
}

// known are all the dialects, in the order in which help lists them.
func known() []Dialect {
	return []Dialect{systemd{}, serverStarter{}, nginx{}, einhorn{}, gunicorn{}, unicorn{}, puma{}, catflap{}, tableflip{}, none{}}
}

// Names are the names of all dialects.
func Names() []string {
	var names []string
	for _, d := range known() {
		names = append(names, d.Name())
	}
	return names
}

// Parse reads a comma-separated list of names. A name that comes twice counts
// once; "none" stands alone.
func Parse(list string) ([]Dialect, error) {
	var out []Dialect
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		all := known()
		i := slices.IndexFunc(all, func(d Dialect) bool { return d.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("dialect: unknown dialect %q: known are %s", name, strings.Join(Names(), ", "))
		}
		if !slices.Contains(out, all[i]) {
			out = append(out, all[i])
		}
	}
	if len(out) > 1 && slices.Contains(out, Dialect(none{})) {
		return nil, fmt.Errorf("dialect: %q: none cannot be combined with others", list)
	}
	return out, clash(out)
}

// clash tells of two dialects that want the same descriptors for different things.
func clash(dialects []Dialect) error {
	if Flips(dialects) && slices.Contains(dialects, Dialect(systemd{})) {
		return fmt.Errorf("dialect: systemd's descriptors begin at 3, where tableflip has pipes: leave one of the two out")
	}
	return nil
}

// Check tells what of lanes the dialects cannot say, nil when they can say all
// of it. It is meant for the time when the addresses are read: their fd
// numbers do not matter.
func Check(dialects []Dialect, lanes []Lane) error {
	for _, d := range dialects {
		c, ok := d.(interface{ check(Lane) error })
		if !ok {
			continue
		}
		for _, l := range lanes {
			if err := c.check(l); err != nil {
				return fmt.Errorf("dialect: %s: %w", d.Name(), err)
			}
		}
	}
	return nil
}
