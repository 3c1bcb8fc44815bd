package upgrader

import (
	"fmt"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/launch"
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
func (s *Service) equip(g *generation, o *launch.Order, lanes []*listener.Lane) error {
	if err := s.readyEvent(g, o); err != nil {
		return err
	}
	return s.handOver(g, o, lanes)
}

// group is the name of the job object of g.
func (s *Service) group(g *generation) string {
	return fmt.Sprintf("upgrader-%s-%d", s.mark, g.number)
}
