package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// place is what the choice of a base depends on.
type place struct {
	uid int    // -1: there are no uids here
	run string // /run
	own string // $XDG_RUNTIME_DIR, %LOCALAPPDATA%; "": none
	tmp string // /tmp
}

// bases are the directories that state dirs may lie in, the preferred one
// first. Each has a last component that is made for us; what it lies in is
// not ours.
func (p place) bases() []string {
	switch {
	case p.uid < 0:
		return []string{filepath.Join(p.own, "upgrader")}
	case p.uid == 0:
		return []string{filepath.Join(p.run, "upgrader"), p.temporary()}
	case p.own != "" && filepath.IsAbs(p.own):
		return []string{filepath.Join(p.own, "upgrader"), p.temporary()}
	default:
		return []string{p.temporary()}
	}
}

// temporary is named by the user: other users' lie beside it.
func (p place) temporary() string {
	return filepath.Join(p.tmp, fmt.Sprintf("upgrader-%d", p.uid))
}

// base is the first of the bases that can be used. It makes nothing.
func (p place) base() (string, error) {
	var errs []error
	for _, base := range p.bases() {
		err := p.usable(base)
		if err == nil {
			return base, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("state: no place for a state dir, give one with --state-dir: %w", oneLine(errs))
}

// usable tells why base cannot hold state dirs.
func (p place) usable(base string) error {
	parent := filepath.Dir(base)
	if parent == p.own && p.own != "" { // su and sudo leave the variable of somebody else behind
		if err := checkDir(parent, p.uid); err != nil {
			return err
		}
	} else if err := checkParent(parent); err != nil {
		return err
	}
	if _, err := os.Lstat(base); err == nil {
		if err := checkDir(base, p.uid); err != nil {
			return err
		}
		return checkWritable(base)
	}
	return checkWritable(parent)
}

// oneLine joins errors with semicolons.
func oneLine(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return joined(errs)
}

type joined []error

func (j joined) Error() string {
	s := make([]string, len(j))
	for i, err := range j {
		s[i] = err.Error()
	}
	return strings.Join(s, "; ")
}

func (j joined) Unwrap() []error { return j }

// Default gives the path of the state dir of a service. It makes nothing.
func Default(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	base, err := here().base()
	if err != nil {
		return "", err
	}
	return filepath.Join(base, name), nil
}

// nameMax keeps names short enough for a socket in /run or /tmp.
const nameMax = 64

// CheckName tells what is wrong with a name that was given.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("state: a name must not be empty")
	case len(name) > nameMax:
		return fmt.Errorf("state: the name %.16q... is longer than %d bytes", name, nameMax)
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("state: the name %q must not begin with %q", name, name[0])
	}
	for _, r := range name {
		if !plain(r) {
			return fmt.Errorf("state: the name %q must consist of letters, digits and . _ - @ : +", name)
		}
	}
	return nil
}

func plain(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-@:+", r)
}

// Name makes the name of a service of its command, as run from the directory
// cwd: the base name of the command, shortened to 40 bytes of CheckName's
// alphabet, and 10 hexadecimal digits of SHA-256 over the directory and every
// argument as given.
func Name(cwd string, command []string) string {
	h := sha256.New()
	for _, s := range append([]string{cwd}, command...) {
		_, _ = fmt.Fprintf(h, "%d:", len(s)) // a hash never fails
		_, _ = io.WriteString(h, s)
	}
	base := "service"
	if len(command) > 0 {
		base = filepath.Base(command[0])
	}
	base = strings.Map(func(r rune) rune {
		if plain(r) {
			return r
		}
		return '_'
	}, base)
	base = strings.TrimLeft(base, ".-")
	if len(base) > 40 {
		base = base[:40]
	}
	if base == "" {
		base = "service"
	}
	return base + "-" + hex.EncodeToString(h.Sum(nil)[:5])
}
