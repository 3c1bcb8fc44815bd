package winevents

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Identity is a process and what proves that an id still means it.
type Identity struct {
	Pid        int       `json:"pid"`
	Created    time.Time `json:"created,omitzero"`     // exact to 100 ns, as the kernel says; zero: not known
	Executable string    `json:"executable,omitempty"` // full path, or a bare file name; empty: not known
}

// Self is the calling process.
func Self() (Identity, error) {
	k, err := newKernel()
	if err != nil {
		return Identity{}, fmt.Errorf("winevents: %w", err)
	}
	id, err := k.self()
	if err != nil {
		return Identity{}, fmt.Errorf("winevents: own identity: %w", err)
	}
	return id, nil
}

// IdentityOf is the process that has the id now: of a child, say, that its
// parent holds a handle of, so that the id is still its own.
func IdentityOf(pid int) (Identity, error) {
	k, err := newKernel()
	if err != nil {
		return Identity{}, fmt.Errorf("winevents: identity of process %d: %w", pid, err)
	}
	p, err := k.openProcess(pid, toWatch)
	if err != nil {
		return Identity{}, fmt.Errorf("winevents: identity of process %d: %w", pid, err)
	}
	id, err := p.Identity()
	if err = errors.Join(err, p.Close()); err != nil {
		return Identity{}, fmt.Errorf("winevents: identity of process %d: %w", pid, err)
	}
	return id, nil
}

// Target names the process to ask: by its pid file, or by an identity that
// proves itself.
type Target struct {
	// PidFile is read under the lock against other askers; no such file: there
	// is nobody to ask. What WritePidFile put beside it is the proof, or else the
	// file's time: a process that was created later did not write it.
	PidFile string
	// Identity is the process to ask when PidFile is empty; it needs Created or
	// Executable. With PidFile only its Executable counts, as one more proof
	// where the creation time was not recorded.
	Identity Identity
}

// claim is what is known of the process that is meant, before it was looked at.
type claim struct {
	Identity
	written time.Time // when a pid file named it; zero: not known
}

// verdict is what a look at a process says about a claim.
type verdict int

const (
	unproved verdict = iota // it may be the one meant or not: an error
	same                    // it is the one meant
	another                 // the one meant is gone, and the id was given away again
)

// written times may be rounded down by as much as this (FAT).
const timeGranularity = 2 * time.Second

// judge compares what is meant with what was found under its id. Every process
// has its id alone for as long as it lives, hence:
//   - the same creation time is the same process, also when its executable was
//     renamed meanwhile, as updates on Windows do; another time is another one;
//   - whoever was alive when the pid file was written is the one that it names;
//     whoever was created later is not, if clocks are to be believed: an equal
//     executable is reason enough not to;
//   - without any time the executable must be the one meant, and a different one
//     proves nothing.
func judge(c claim, found Identity) verdict {
	if c.Pid != found.Pid {
		return unproved
	}
	executable := compareExecutables(c.Executable, found.Executable)
	switch {
	case !c.Created.IsZero() && !found.Created.IsZero():
		if c.Created.Equal(found.Created) {
			return same
		}
		return another
	case !c.written.IsZero() && !found.Created.IsZero():
		early := !found.Created.After(c.written.Add(timeGranularity))
		switch {
		case early && executable != differ:
			return same
		case !early && executable != equal:
			return another
		}
	case executable == equal:
		return same
	}
	return unproved
}

type comparison int

const (
	unknown comparison = iota
	equal
	differ
)

// compareExecutables ignores case, as file names of Windows do. A bare file name
// is compared with the other's last element.
func compareExecutables(want, got string) comparison {
	if want == "" || got == "" {
		return unknown
	}
	want, got = strings.ReplaceAll(want, "/", `\`), strings.ReplaceAll(got, "/", `\`)
	if !strings.Contains(want, `\`) {
		got = got[strings.LastIndex(got, `\`)+1:]
	}
	if strings.EqualFold(want, got) {
		return equal
	}
	return differ
}
