package winevents

import (
	"errors"
	"fmt"
	"os"
)

// ReadyVariable names, in the environment of a server that upgrader runs, the
// event that says that it is ready.
const ReadyVariable = "UPGRADER_READY_EVENT"

// SayReady tells the upgrader that runs us that we are ready: clients are
// answered. Without one it does nothing.
func SayReady() error {
	name := os.Getenv(ReadyVariable)
	if name == "" {
		return nil
	}
	k, err := newKernel()
	if err == nil {
		err = sayReady(k, name)
	}
	if err != nil {
		return fmt.Errorf("winevents: say ready: %w", err)
	}
	return nil
}

func sayReady(k kernel, name string) error {
	e, existed, err := k.createEvent(name, nil)
	if err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	if !existed {
		err = fmt.Errorf("nobody waits for event %s", name)
	} else {
		err = e.Set()
	}
	return errors.Join(err, e.Close())
}
