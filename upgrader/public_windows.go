package upgrader

import "github.com/upgrader/upgrader/listener"

// publicSet is none: a socket that generations share is one that the net package must not have seen, and ours is to
// be accepted from by it.
func (s *Service) publicSet() *listener.Set { return nil }
