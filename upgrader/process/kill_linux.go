package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
)

// freezeRounds bounds how often the members are stopped and counted again before the killing starts.
const freezeRounds = 16

// Kill ends every member with SIGKILL, and returns when a look, and another one, found none. Members that fork
// while they are being killed are stopped first, so that the last look before the signal saw all of them. The error
// is ctx's, or says which members may not be signalled.
func (m *Members) Kill(ctx context.Context) error {
	m.killLonely(ctx)
	for {
		list, err := m.freeze()
		if err != nil {
			return fmt.Errorf("process: kill: %w", err)
		}
		if len(list) == 0 {
			empty, err := m.Empty()
			if err != nil {
				return fmt.Errorf("process: kill: %w", err)
			}
			if empty {
				return nil
			}
			continue
		}
		killCgroup(m.cgroup) // all at once, where there is one; the rest of this loop holds anyway
		var killed []Identity
		var failed error
		for _, id := range list {
			switch err := id.Signal(syscall.SIGKILL); {
			case err == nil:
				killed = append(killed, id)
			case !errors.Is(err, ErrGone):
				failed = errors.Join(failed, err)
			}
		}
		for _, id := range killed {
			if err := id.Wait(ctx); err != nil {
				return fmt.Errorf("process: kill: %w", err)
			}
		}
		if len(killed) == 0 && failed != nil {
			return fmt.Errorf("process: kill: %w", failed)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("process: kill: %w", err)
		}
	}
}

// freeze stops the members until two looks agree. A fork that was under way when its caller was stopped has either
// happened, and the next look sees the child, or will be undone (a pending signal fails it, fork(2)).
func (m *Members) freeze() (list []Identity, err error) {
	var stopped []Identity
	for range freezeRounds {
		if list, err = m.List(); err != nil {
			return nil, err
		}
		fresh := slices.DeleteFunc(slices.Clone(list), func(id Identity) bool { return slices.Contains(stopped, id) })
		if len(fresh) == 0 {
			break
		}
		_ = signalAll(fresh, syscall.SIGSTOP) // who may not be stopped may not be killed: that error counts
		stopped = append(stopped, fresh...)
	}
	return list, nil
}

// WaitEmpty returns when no member is left, however they end.
func (m *Members) WaitEmpty(ctx context.Context) error {
	for {
		list, err := m.List()
		if err != nil {
			return err
		}
		if len(list) == 0 {
			empty, err := m.Empty()
			if empty || err != nil {
				return err
			}
		}
		for _, id := range list {
			if err := id.Wait(ctx); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("process: wait for members: %w", err)
		}
	}
}
