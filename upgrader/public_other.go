//go:build !windows

package upgrader

import "github.com/upgrader/upgrader/listener"

// publicSet holds the public addresses of the proxies.
func (s *Service) publicSet() *listener.Set {
	return listener.NewSet(listener.Config{Observe: s.laneEvent})
}
