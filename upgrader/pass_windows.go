package upgrader

import (
	"fmt"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/process"
)

// pass has the command inherit a lane. A handle keeps its number, whatever
// number was wanted.
func pass(o *launch.Order, lane *listener.Lane, _ int) (number int, passed func(), err error) {
	h, release, err := lane.Inherit()
	if err != nil {
		return 0, nil, err
	}
	o.Handles = append(o.Handles, h)
	return int(h), release, nil
}

// equip adds what a server finds on Windows alone.
func (s *Service) equip(g *generation, a *armed) error {
	if q := s.config.Quit; q != nil {
		a.order.Suspended = func(pid int) error {
			id, err := process.Of(pid)
			if err == nil {
				a.asking, err = q.Hold(id)
			}
			return err
		}
	}
	if err := s.readyEvent(g, &a.order); err != nil {
		return err
	}
	return s.handOver(g, &a.order, a.lanes)
}

// group is the name of the job object of g.
func (s *Service) group(g *generation) string {
	return fmt.Sprintf("upgrader-%s-%d", s.mark, g.number)
}
