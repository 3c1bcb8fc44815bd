package main

import (
	"syscall"
	"time"
)

// rest is how long a supervisor has had nothing to do when its memory is looked at.
const rest = 3 * time.Second

// measureMemory takes the proportional set size of the supervisor alone: after
// its start, and after swaps under load.
func measureMemory(b *bench) error {
	guest := b.bareGuest()
	for _, w := range []*swapper{
		{recipe: b.listening(nil), swap: sends(syscall.SIGUSR2)},
		{recipe: b.binding(nil), swap: sends(syscall.SIGUSR2)},
		{recipe: b.starting(), swap: sends(syscall.SIGHUP)},
	} {
		at := "memory/" + w.name
		if why := w.missing(); why != "" {
			b.samples.Missing[at] = why
			continue
		}
		var err error
		// Somebody else runs the same guest, so that its pages are shared in any case.
		other, err := b.serve(guest)
		if err != nil {
			return err
		}
		if w.server, err = b.serve(w.recipe); err != nil {
			return err
		}
		take := func(when string) error {
			select {
			case <-b.ctx.Done():
				return b.ctx.Err()
			case <-time.After(rest):
			}
			mb, err := pss(w.server.command.Process.Pid)
			b.samples.add(at+"/"+when, mb)
			return err
		}
		if err := take("started"); err != nil {
			return err
		}
		for range b.Amounts.MemorySwaps {
			if err := b.window("memory", w); err != nil {
				return err
			}
		}
		if err := take("swapped"); err != nil {
			return err
		}
		if err := stopAll([]*server{w.server, other}); err != nil {
			return err
		}
	}
	return nil
}
