package winevents

import (
	"errors"
	"fmt"
)

// Held are the events of another process.
type Held struct{ events []event }

// Hold opens or creates the events of a process and holds them until Close, as
// the parent of an unmodified server does for its child. A signal dies with the
// last handle to its event: of two unmodified peers the asker closes Kill, and
// the asked one KillSuccess, after Times.Hold, whether or not the other has
// looked by then. With a third one that holds them none is lost. Nothing is set
// or reset. nil namespaces: both.
func Hold(id Identity, namespaces []Namespace) (*Held, error) {
	k, err := newKernel()
	if err != nil {
		return nil, fmt.Errorf("winevents: hold the events of process %d: %w", id.Pid, err)
	}
	return hold(k, id, namespaces)
}

func hold(k kernel, id Identity, names []Namespace) (h *Held, err error) {
	h = &Held{}
	defer func() {
		if err != nil {
			_ = h.Close() // of handles that are ours; what failed counts
			h, err = nil, fmt.Errorf("winevents: hold the events of process %d: %w", id.Pid, err)
		}
	}()
	p, err := k.openProcess(id.Pid, toWatch)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	found, err := p.Identity()
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrNotProved, err)
	}
	if judge(claim{Identity: id}, found) != same {
		return h, fmt.Errorf("%w: found %q", ErrNotProved, found.Executable)
	}
	var grant []string
	if sid, err := p.User(); err == nil { // else it is our own user's, or closed to it as it would be anyway
		grant = append(grant, sid)
	}
	for _, n := range namespaces(names) {
		for _, s := range []Signal{KillSuccess, Kill, Quit, Stop, Reload} {
			name := string(n) + s.Name(id.Pid)
			e, _, err := k.createEvent(name, grant)
			if err != nil {
				return h, fmt.Errorf("event %s: %w", name, err)
			}
			h.events = append(h.events, e)
		}
	}
	return h, nil
}

// Close releases them. Only its first call does something.
func (h *Held) Close() error {
	var failed []error
	for _, e := range h.events {
		failed = append(failed, e.Close())
	}
	h.events = nil
	return errors.Join(failed...)
}
