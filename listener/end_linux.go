package listener

import "golang.org/x/sys/unix"

func (s *system) close() error  { return s.end(false) }
func (s *system) detach() error { return s.end(true) }

// end closes everything. To detach is to leave the sockets as they are, for whoever else has them.
func (s *system) end(detach bool) error {
	s.lock()
	if s.closed {
		s.unlock()
		return nil
	}
	s.closed = true
	s.cancel()
	s.kickLocked()
	s.unlock()
	s.work.Wait()

	s.lock()
	defer s.unlock()
	for _, c := range s.list {
		if c.dir != nil {
			if !detach {
				c.dir.unpublish(c.all)
			}
		}
		for _, l := range c.all {
			if l.fd < 0 {
				continue
			}
			if !detach && c.at.network != "udp" { // whoever has a duplicate must not keep the port alive
				_ = unix.Shutdown(l.fd, unix.SHUT_RDWR) // not listening: nothing to shut
			}
			unix.Close(l.fd)
			l.fd, l.state = -1, laneGone
		}
		if c.dir != nil {
			c.dir.close()
		}
	}
	s.list = nil
	if s.wake >= 0 {
		unix.Close(s.wake)
		s.wake = -1
	}
	return nil
}
