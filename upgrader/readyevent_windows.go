package upgrader

import (
	"context"
	"fmt"
	"strconv"

	"golang.org/x/sys/windows"

	"github.com/upgrader/upgrader/upgrader/launch"
)

// readyEvent is how a server says READY=1 on Windows: it sets the event that
// UPGRADER_READY_EVENT names.
func (s *Service) readyEvent(g *generation, o *launch.Order) error {
	called := "upgrader-ready-" + s.mark + "-" + strconv.Itoa(g.number)
	name, err := windows.UTF16PtrFromString(called)
	if err != nil {
		return err
	}
	said, err := windows.CreateEvent(nil, 0, 0, name)
	if err != nil {
		return fmt.Errorf("upgrader: make the event that says ready: CreateEvent: %w", err)
	}
	over, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		_ = windows.CloseHandle(said) // nobody knows it
		return fmt.Errorf("upgrader: make the event that says ready: CreateEvent: %w", err)
	}
	o.Env = append(o.Env, "UPGRADER_READY_EVENT="+called)
	s.spawn(func() {
		told := make(chan struct{})
		context.AfterFunc(g.run, func() {
			defer close(told)
			_ = windows.SetEvent(over) // it is open until we have returned
		})
		for {
			got, err := windows.WaitForMultipleObjects([]windows.Handle{over, said}, false, windows.INFINITE)
			if err != nil || got == windows.WAIT_OBJECT_0 {
				break
			}
			s.tell(func() { s.saidReady(g) })
		}
		<-told
		_ = windows.CloseHandle(over) // nobody has it any more
		_ = windows.CloseHandle(said) // the server may
	})
	return nil
}
