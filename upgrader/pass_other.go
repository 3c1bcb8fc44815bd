//go:build !windows

package upgrader

import (
	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/launch"
)

// pass has the command find a lane under a number. passed is called once the
// command runs.
func pass(o *launch.Order, lane *listener.Lane, number int) (_ int, passed func(), err error) {
	f, err := lane.Dup()
	if err != nil {
		return 0, nil, err
	}
	o.Files = append(o.Files, launch.Passed{File: f, Number: number})
	return number, func() { _ = f.Close() }, nil // the lane has another
}

// equip has nothing to add: descriptors are passed, and there is a notify
// socket.
func (s *Service) equip(*generation, *armed) error { return nil }

// group is the name of what holds the processes of g together: nothing that
// has a name.
func (s *Service) group(*generation) string { return "" }
