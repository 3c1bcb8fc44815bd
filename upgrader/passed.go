package upgrader

import (
	"slices"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/dialect"
)

// lanes are what g gets of each claimed address: those that were prepared for
// it, or new ones.
func (s *Service) lanes(g *generation) ([]*listener.Lane, error) {
	var all []*listener.Lane
	for _, c := range s.claims {
		mine := s.lanesOf(c, g)
		if len(mine) == 0 {
			lane, err := s.set.Lane(c, g.number)
			if err != nil {
				return nil, err
			}
			mine = append(mine, lane)
		}
		all = append(all, mine[0])
	}
	return all, nil
}

// numbers are the descriptor numbers of n addresses: those that were asked
// for, and else the lowest free ones from the first on.
func (c *Config) numbers(n int) []int {
	taken := map[int]bool{}
	for _, fd := range c.Numbers {
		taken[fd] = true
	}
	out := make([]int, n)
	next := dialect.First(c.Dialects)
	for i := range out {
		if fd, given := c.Numbers[i]; given {
			out[i] = fd
			continue
		}
		for taken[next] {
			next++
		}
		out[i] = next
		next++
	}
	return out
}

// lanesOf are the lanes of g on one claim.
func (s *Service) lanesOf(c *listener.Claim, g *generation) []*listener.Lane {
	return slices.DeleteFunc(s.set.Lanes(g.number), func(l *listener.Lane) bool { return l.Claim() != c })
}
