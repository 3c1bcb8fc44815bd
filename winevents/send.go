package winevents

import (
	"context"
	"errors"
	"fmt"
)

// Send sets an event that nobody confirms: Reload, Stop or Quit. It holds the
// event for Times.Hold or until the process ends, so that a server which polls
// sees it. Of the config it uses Times, Namespaces and Observe. There being
// nobody is ErrNoProcess.
func Send(ctx context.Context, target Target, signal Signal, config AskConfig) error {
	k, err := newKernel()
	if err == nil {
		err = send(ctx, k, target, signal, config)
	}
	if err != nil {
		return fmt.Errorf("winevents: send %s: %w", signal, err)
	}
	return nil
}

func send(ctx context.Context, k kernel, target Target, signal Signal, config AskConfig) (err error) {
	switch signal {
	case Reload, Stop, Quit:
	default:
		return errors.New("not a signal that is sent without an answer")
	}
	config.AtDeadline = DeadlineRefuse
	a := &asking{kernel: k, config: config, times: config.Times.withDefaults(), names: namespaces(config.Namespaces)}
	defer func() { err = errors.Join(err, a.close()) }()
	if a.waiter, err = newWaiter(ctx, k); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.waiter.close()) }()
	reason, err := a.find(target)
	if err != nil {
		return err
	}
	if reason != "" {
		return fmt.Errorf("%w: %s", ErrNoProcess, reason)
	}
	var grant []string
	if sid, err := a.process.User(); err == nil {
		grant = append(grant, sid)
	}
	for _, n := range a.names {
		name := string(n) + signal.Name(a.claimed.Pid)
		e, _, err := k.createEvent(name, grant)
		if err != nil {
			return fmt.Errorf("event %s: %w", name, err)
		}
		a.kills = append(a.kills, e)
	}
	for i, e := range a.kills {
		name := string(a.names[i]) + signal.Name(a.claimed.Pid)
		if err := e.Set(); err != nil {
			return fmt.Errorf("event %s: %w", name, err)
		}
		a.observe(Event{What: EventSignalled, Object: name})
	}
	_, err = a.waiter.wait(a.times.Hold, a.process)
	return err
}
