package main

import (
	"path/filepath"
	"time"
)

// measureStartUp takes the time from the exec of a wrapper to the first answer
// of the server in it. The wrappers take turns.
func measureStartUp(b *bench) error {
	around := func(tool string) recipe {
		r := b.bareGuest()
		return recipe{name: tool, tool: tool, command: append([]string{tool}, append([]string{"--"}, r.command...)...)}
	}
	only := func(name, program string) recipe {
		r := b.bareGuest()
		return recipe{name: name, command: append([]string{filepath.Join(b.Dir, program)}, r.command...)}
	}
	wrappers := []recipe{b.bareGuest(), only(floor, "floor"), only(linked, "linked"), b.listening(nil), b.binding(nil), around(tini), around(dumbInit), b.starting()}
	for round := range b.Amounts.Starts + 1 {
		for _, r := range wrappers {
			at := "start-up/" + r.name
			if why := r.missing(); why != "" {
				b.samples.Missing[at] = why
				continue
			}
			if b.ctx.Err() != nil {
				return b.ctx.Err()
			}
			began := time.Now()
			s, err := b.serve(r)
			took := time.Since(began)
			if err != nil {
				return err
			}
			if round > 0 { // the first one reads files from disk
				b.samples.add(at, millis(took))
			}
			if err := s.stop(); err != nil {
				return err
			}
		}
	}
	return nil
}
